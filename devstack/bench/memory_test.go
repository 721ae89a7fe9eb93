package bench

import (
	"os"
	"slices"
	"testing"
)

func TestParseRollup(t *testing.T) {
	const text = "55d0c0a00000-7ffd1b5f2000 ---p 00000000 00:00 0                          [rollup]\n" +
		"Rss:               20480 kB\nPss:               15360 kB\nPss_Anon:          10000 kB\nPss_File:           5360 kB\nShared_Clean:       6000 kB\n"
	pss, rss, err := parseRollup(text)
	if err != nil || pss != 15 || rss != 20 {
		t.Errorf("PSS %v, RSS %v, %v", pss, rss, err)
	}
	if _, _, err := parseRollup("Rss: x kB\n"); err == nil {
		t.Error("nonsense is read")
	}
	if _, _, err := parseRollup(""); err == nil {
		t.Error("nothing is read")
	}
}

func TestFamily(t *testing.T) {
	got := family([]int{10, 30}, map[int]int{1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20, 30: 12, 31: 30})
	slices.Sort(got)
	if want := []int{10, 11, 12, 30, 31}; !slices.Equal(got, want) {
		t.Errorf("family %v, want %v", got, want)
	}
}

func TestFamilyMemory(t *testing.T) {
	u, err := familyMemory([]int{os.Getpid()})
	if err != nil || u.processes < 1 || u.rss < 1 || u.pss > u.rss {
		t.Errorf("%+v, %v", u, err)
	}
}
