package dm

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
)

func captured(t testing.TB, name string) (header, []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	h, data, err := unmarshal(b)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return h, data
}

func TestUnmarshalDevice(t *testing.T) {
	h, data := captured(t, "device.bin")
	want := header{
		targetCount: 4, flags: unix.DM_ACTIVE_PRESENT_FLAG, eventNr: 0, dev: 254 << 8,
		name: "vmthunder-a", uuid: "VMTHUNDER-vmthunder-a",
	}
	if h != want || len(data) != 0 {
		t.Errorf("%+v, %d bytes; want %+v", h, len(data), want)
	}
	d := (&Mapper{nodes: nodes{dir: "/dev/mapper"}}).device(h)
	if d != (driver.Device{Name: h.name, UUID: h.uuid, Path: "/dev/mapper/vmthunder-a", Major: 254, Live: true}) {
		t.Errorf("device %+v", d)
	}
}

func TestUnmarshalNames(t *testing.T) {
	want := []listed{{254<<8 | 1, "b"}, {254 << 8, "vmthunder-a"}, {254<<8 | 2, "with-a-longer-name"}}
	for name, want := range map[string][]listed{"list.bin": want, "list-uuid.bin": want, "list-empty.bin": nil} {
		_, data := captured(t, name)
		got, err := unmarshalNames(data)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestBufferFull(t *testing.T) {
	for _, name := range []string{"list-full.bin", "table-full.bin"} {
		if h, _ := captured(t, name); h.flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			t.Errorf("%s: flags %#x", name, h.flags)
		}
	}
}

func TestUnmarshalVersions(t *testing.T) {
	_, data := captured(t, "versions.bin")
	got, err := unmarshalVersions(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []TargetVersion{
		{"linear", 1, 4, 0}, {"error", 1, 5, 0}, {"snapshot", 1, 16, 0}, {"thin-pool", 1, 22, 0}, {"multipath", 1, 14, 0}, {"zero", 1, 1, 0},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v lacks %v", got, want)
		}
	}
}

func TestUnmarshalTable(t *testing.T) {
	h, data := captured(t, "table.bin")
	got, err := unmarshalTable(data, h.targetCount)
	want := NewTable(Linear(16, "98:0", 8), Zero(100), Linear(7, "7:0", 0), Error(3))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	h, data = captured(t, "status.bin")
	if got, err = unmarshalTable(data, h.targetCount); err != nil || len(got) != 4 || got[0].Params == "" && got[3].Type != "error" {
		t.Errorf("status %+v, %v", got, err)
	}
	if _, err := unmarshalTable(data, 5); err == nil {
		t.Error("a fifth target was found among four")
	}
}

func TestUnmarshalDeps(t *testing.T) {
	_, data := captured(t, "deps.bin")
	got, err := unmarshalDeps(data)
	if want := []DevNumber{{7, 0}, {98, 0}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUnmarshalMessage(t *testing.T) {
	h, data := captured(t, "message.bin")
	if h.flags&unix.DM_DATA_OUT_FLAG == 0 || cString(data) != "0" {
		t.Errorf("flags %#x, answer %q", h.flags, data)
	}
}

// What is sent: offsets as in dm-ioctl.h.
func TestMarshal(t *testing.T) {
	h := header{targetCount: 2, flags: unix.DM_READONLY_FLAG, name: "n", uuid: "u"}
	payload, err := marshalTable(NewTable(Linear(16, "8:1", 2048), Zero(5)))
	if err != nil {
		t.Fatal(err)
	}
	buf, err := h.marshal(payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	u32 := func(at int) uint32 { return order.Uint32(buf[at:]) }
	u64 := func(at int) uint64 { return order.Uint64(buf[at:]) }
	first := headerLen + specLen + align8(len("8:1 2048")+1)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"version", u32(0), uint32(4)},
		{"data_size", u32(12), uint32(len(buf))},
		{"data_start", u32(16), uint32(headerLen)},
		{"target_count", u32(20), uint32(2)},
		{"flags", u32(28), uint32(1)},
		{"name", cString(buf[48:]), "n"},
		{"uuid", cString(buf[176:]), "u"},
		{"start", u64(headerLen), uint64(0)},
		{"length", u64(headerLen + 8), uint64(16)},
		{"next", u32(headerLen + 20), uint32(first - headerLen)},
		{"type", cString(buf[headerLen+24:]), "linear"},
		{"params", cString(buf[headerLen+40:]), "8:1 2048"},
		{"second start", u64(first), uint64(16)},
		{"second type", cString(buf[first+24:]), "zero"},
		{"second next", u32(first + 20), uint32(48)},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.what, c.got, c.want)
		}
	}
	back, data, err := unmarshal(buf)
	if err != nil || back != h || !bytes.Equal(data, payload) {
		t.Errorf("read back %+v, %v", back, err)
	}
	long := string(bytes.Repeat([]byte("x"), 129))
	for _, h := range []header{{name: long[:128]}, {uuid: long}} {
		if _, err := h.marshal(nil, 0); err == nil {
			t.Errorf("%+v was taken", h)
		}
	}
	if _, err := marshalTable(driver.Table{{Length: 1, Type: long[:16]}}); err == nil {
		t.Error("a type of 16 bytes was taken")
	}
}

// Whatever the kernel may answer, nothing panics or loops, and no table is longer
// than announced.
func FuzzUnmarshal(f *testing.F) {
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, data, err := unmarshal(b)
		if err != nil {
			return
		}
		table, err := unmarshalTable(data, h.targetCount%64)
		if err == nil && len(table) != int(h.targetCount%64) {
			t.Errorf("%d targets of %d", len(table), h.targetCount%64)
		}
		_, _ = unmarshalNames(data)
		_, _ = unmarshalVersions(data)
		_, _ = unmarshalDeps(data)
	})
}
