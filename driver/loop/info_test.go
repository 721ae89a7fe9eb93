package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What a Linux 6.1 kernel says of a loop device on a file and on a block device:
// device and inode of the file (a node in devtmpfs), and the block device's number.
func TestIdentity(t *testing.T) {
	file := &unix.Stat_t{Mode: unix.S_IFREG | 0o600, Dev: unix.Mkdev(8, 1), Ino: 77}
	disk := &unix.Stat_t{Mode: unix.S_IFBLK | 0o600, Dev: unix.Mkdev(0, 5), Ino: 300, Rdev: unix.Mkdev(254, 700)}
	alias := &unix.Stat_t{Mode: unix.S_IFBLK | 0o600, Dev: unix.Mkdev(0, 5), Ino: 301, Rdev: unix.Mkdev(254, 700)}
	under := &unix.Stat_t{Mode: unix.S_IFBLK | 0o600, Dev: unix.Mkdev(0, 5), Ino: 9, Rdev: unix.Mkdev(8, 1)}
	onFile := &unix.LoopInfo64{Device: 8<<8 | 1, Inode: 77}
	onFileOld := &unix.LoopInfo64{Device: 8<<8 | 1, Inode: 77, Rdevice: 8<<8 | 1}
	onDisk := &unix.LoopInfo64{Device: 5, Inode: 300, Rdevice: 254<<8 | 700&0xff | 700&^0xff<<12}
	for _, c := range []struct {
		what string
		info *unix.LoopInfo64
		stat *unix.Stat_t
		want bool
	}{
		{"the file", onFile, file, true},
		{"the file, with its file system's number again", onFileOld, file, true},
		{"the disk below the file", onFile, under, false},
		{"the disk below the file, likewise", onFileOld, under, false},
		{"the disk", onDisk, disk, true},
		{"the disk by another node", onDisk, alias, true},
		{"another disk", onDisk, under, false},
		{"a file for a disk", onDisk, file, false},
	} {
		id, err := identityOfStat(c.stat)
		if err != nil {
			t.Fatal(err)
		}
		if got := identityOf(c.info) == id; got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if _, err := identityOfStat(&unix.Stat_t{Mode: unix.S_IFDIR}); err == nil {
		t.Error("a folder was taken")
	}
}

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]int{"loop0": 0, "loop17": 17, "loop": -1, "loopx": -1, "loop01": -1, "loop-1": -1, "sda": -1, "loop0p1": -1} {
		n, ok := parseNumber(in)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%s: %d, %v", in, n, ok)
		}
	}
}

func TestSetName(t *testing.T) {
	var i unix.LoopInfo64
	for n := range i.File_name {
		i.File_name[n] = 'x'
	}
	long := "/a/long/path/that/does/not/fit/into/the/field/of/sixty-four/bytes/at/all"
	setName(&i, long)
	if got := string(i.File_name[:63]); got != long[:63] || i.File_name[63] != 0 {
		t.Errorf("%q", i.File_name)
	}
	setName(&i, "/b")
	if string(i.File_name[:3]) != "/b\x00" {
		t.Errorf("%q", i.File_name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("loop12", "/images/a b (deleted)\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		if n, ok := parseNumber(name); ok && n < 0 {
			t.Errorf("%q is %d", name, n)
		}
		if s := parseBacking(text); len(s) > len(text) {
			t.Errorf("%q became %q", text, s)
		}
	})
}
