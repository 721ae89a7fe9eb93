package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// formats that Glance has, with how qemu-img makes them.
var formats = []struct {
	glance string
	args   []string
	format Format
}{
	{"qcow2", []string{"qcow2"}, Qcow2},
	{"qcow2", []string{"qcow2", "-o", "compat=0.10"}, Qcow2},
	{"qcow2", []string{"qcow2", "-c", "-o", "compression_type=zstd,extended_l2=on,cluster_size=16k"}, Qcow2},
	{"vmdk", []string{"vmdk"}, VMDK},
	{"vmdk", []string{"vmdk", "-o", "subformat=streamOptimized"}, VMDK},
	{"vhd", []string{"vpc", "-o", "force_size=on"}, VHD},
	{"vhd", []string{"vpc", "-o", "subformat=fixed,force_size=on"}, VHD},
	{"vhdx", []string{"vhdx"}, VHDX},
	{"vdi", []string{"vdi"}, VDI},
}

func TestConversions(t *testing.T) {
	content := noise(6<<20, 20)
	for _, c := range formats {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := newServer(t)
			st := newStore(t, s)
			b := convert(t, content, c.args[0], c.args[1:]...)
			if f, err := Detect(bytes.NewReader(b), int64(len(b))); f != c.format || err != nil {
				t.Fatalf("detected as %s, %v", f, err)
			}
			_, src := s.add(c.glance, b)
			var phases []string
			f, err := st.Ensure(t.Context(), src, func(p driver.ImageProgress) {
				if !slices.Contains(phases, p.Phase) {
					phases = append(phases, p.Phase)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			same(t, f, content)
			whole(t, st, src.ImageID)
			if want := []string{"download", "convert"}; !slices.Equal(phases, want) {
				t.Errorf("phases %v", phases)
			}
			if allocated(f.Path) >= f.DeviceBytes {
				t.Error("no holes")
			}
			// Its virtual size counts for the limit, not the file's.
			if err := st.Remove(t.Context(), src.ImageID); err != nil {
				t.Fatal(err)
			}
			src.MaxBytes = int64(len(content)) - 1
			if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrUnusable) {
				t.Errorf("limit: %v", err)
			}
		})
	}
}

// TestClaims: whatever is not what it claims to be is refused, and both are named.
func TestClaims(t *testing.T) {
	content := noise(1<<20, 21)
	images := map[string][]byte{"raw": content}
	for _, c := range formats {
		images[c.glance] = convert(t, content, c.args[0], c.args[1:]...)
	}
	s := newServer(t)
	st := newStore(t, s)
	for is, b := range images {
		for claim := range images {
			if is == claim {
				continue
			}
			_, src := s.add(claim, b)
			_, err := st.Ensure(t.Context(), src, nil)
			named := func(f string) string { return strings.Replace(f, "vhd", "vpc", 1) }
			if is == "vhdx" || claim == "vhdx" {
				named = func(f string) string {
					if f == "vhd" {
						return "vpc"
					}
					return f
				}
			}
			want := fmt.Sprintf("claims to be %s but is %s", named(claim), named(is))
			if !errors.Is(err, driver.ErrUnusable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s as %s: %v", is, claim, err)
			}
		}
	}
	for _, claim := range []string{"ploop", "json:{}", "x"} {
		_, src := s.add(claim, content)
		if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrUnusable) {
			t.Errorf("%s: %v", claim, err)
		}
	}
	_, src := s.add("iso", content)
	if _, err := st.Ensure(t.Context(), src, nil); err != nil {
		t.Errorf("iso: %v", err)
	}
	for _, b := range [][]byte{
		[]byte("QED\x00" + strings.Repeat("x", 5000)),
		[]byte("WithoutFreeSpace" + strings.Repeat("x", 5000)),
		[]byte("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n"),
		[]byte("# x\n\n   \nversion=3\nRW 1 FLAT \"/etc/shadow\" 0\n"),
	} {
		_, src := s.add("raw", b)
		if _, err := st.Ensure(t.Context(), src, nil); !errors.Is(err, driver.ErrUnusable) {
			t.Errorf("%.20q: %v", b, err)
		}
	}
	if left := files(t, st); len(left) != 2 {
		t.Errorf("left %v", left)
	}
}

// hostile images, as attackers make them.
func hostile(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	secret := in("secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("secret!\n"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", in("backing.qcow2"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+in("data")+",data_file_raw=on", in("datafile.qcow2"), "64k")
	qemuImg(t, "create", "-q", "-f", "vmdk", in("secret.vmdk"), "1M")
	qemuImg(t, "create", "-q", "-f", "vmdk", "-b", in("secret.vmdk"), "-F", "vmdk", in("parent.vmdk"), "1M")
	out := map[string][]byte{}
	for _, name := range []string{"backing.qcow2", "datafile.qcow2", "parent.vmdk"} {
		b, err := os.ReadFile(in(name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	good := convert(t, noise(1<<20, 22), "vmdk")
	patch := func(name string, f func(b []byte) []byte) { out[name] = f(slices.Clone(good)) }
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte {
			i := bytes.Index(b, []byte(old))
			if i < 0 {
				t.Fatalf("no %q", old)
			}
			end := i + bytes.IndexByte(b[i:], '\n')
			rest := slices.Clone(b[end:min(end+600, len(b))])
			copy(b[i:], append([]byte(with), rest...)[:600])
			return b
		}
	}
	patch("flat.vmdk", replace("RW ", fmt.Sprintf("RW 128 FLAT %q 0", secret)))
	patch("second extent.vmdk", replace("RW ", fmt.Sprintf("RW 2048 SPARSE \"a\"\nRW 128 FLAT %q 0", secret)))
	patch("type.vmdk", replace("createType", `createType="monolithicFlat"`))
	patch("zero capacity.vmdk", func(b []byte) []byte { clear(b[12:20]); return b })
	patch("descriptor beyond.vmdk", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[28:], 1<<40); return b })
	patch("huge descriptor.vmdk", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[36:], 1<<40); return b })
	patch("footer.vmdk", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[56:], 1<<64-1); return b })
	qcow := convert(t, noise(1<<20, 23), "qcow2")
	bits := slices.Clone(qcow)
	bits[72] |= 0x80
	out["unknown feature.qcow2"] = bits
	crypt := slices.Clone(qcow)
	binary.BigEndian.PutUint32(crypt[32:], 2) // LUKS
	out["encrypted.qcow2"] = crypt
	size := slices.Clone(qcow)
	binary.BigEndian.PutUint64(size[24:], 1<<63)
	out["negative.qcow2"] = size
	large := slices.Clone(qcow)
	binary.BigEndian.PutUint64(large[24:], 1<<50)
	out["huge.qcow2"] = large
	out["short.qcow2"] = qcow[:50]
	corrupt := slices.Clone(qcow)
	corrupt[47] = 3 // the level 1 table's place, which is never odd
	out["corrupt.qcow2"] = corrupt
	vhd := convert(t, noise(1<<20, 24), "vpc")
	binary.BigEndian.PutUint32(vhd[len(vhd)-512+60:], 4)
	out["differencing.vhd"] = vhd
	vdi := convert(t, noise(1<<20, 25), "vdi")
	copy(vdi[0x1b8:], "parent-uuid-here")
	out["parent.vdi"] = vdi
	return out
}

// TestHostile: none gets through, and qemu-img never sees one that refers to a file.
func TestHostile(t *testing.T) {
	s := newServer(t)
	for name, b := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			count := &command.Counting{Runner: command.Exec{}}
			st := newStore(t, s, func(o *Options) { o.Runner = count })
			_, src := s.add(name[strings.LastIndexByte(name, '.')+1:], b)
			src.MaxBytes = 1 << 40
			if name == "corrupt.qcow2" {
				src.MaxBytes = 0
			}
			_, err := st.Ensure(t.Context(), src, nil)
			if !errors.Is(err, driver.ErrUnusable) {
				t.Errorf("got %v", err)
			}
			if n := count.Count(); n > 0 && name != "corrupt.qcow2" {
				t.Errorf("qemu-img saw it: %v", err)
			}
			if left := files(t, st); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestParseInfo(t *testing.T) {
	for name, want := range map[string]string{
		"qcow2": "", "vmdk": "", "vmdk-stream": "", "vpc": "",
		"qcow2-backing": "backing file", "qcow2-datafile": "external data file", "qcow2-encrypted": "encrypted",
	} {
		out, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		format, _, _ := strings.Cut(name, "-")
		virtual, err := parseInfo(out, Format(format), "image."+format)
		if want == "" && (err != nil || virtual < 8<<20) {
			t.Errorf("%s: %d, %v", name, virtual, err)
		}
		if want != "" && (!errors.Is(err, driver.ErrUnusable) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{
		`{"format": "raw", "virtual-size": 4096}`, `{"format": "vmdk", "virtual-size": 0}`,
		`{"format": "vmdk", "virtual-size": 1, "format-specific": {"data": {"create-type": "monolithicFlat"}}}`,
		`{"format": "vmdk", "virtual-size": 1, "format-specific": {"data": {"create-type": "monolithicSparse", "extents": [{"filename": "/etc/shadow"}]}}}`,
	} {
		if _, err := parseInfo([]byte(bad), VMDK, "p"); !errors.Is(err, driver.ErrUnusable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := parseInfo([]byte("x"), VMDK, "p"); err == nil || errors.Is(err, driver.ErrUnusable) {
		t.Errorf("got %v", err)
	}
}

func TestQemuErrors(t *testing.T) {
	reply := func(code int, text string) command.Runner {
		return &command.Recorder{Reply: func(c command.Cmd) (command.Result, error) {
			return command.Result{}, command.Failure(c, code, text)
		}}
	}
	ctx := context.Background()
	if err := qemuConvert(ctx, reply(1, "qemu-img: error while writing at byte 0: No space left on device"), "/d/a", "/d/b", Qcow2, 0); !errors.Is(err, driver.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if err := qemuConvert(ctx, reply(137, ""), "/d/a", "/d/b", Qcow2, 0); err == nil || errors.Is(err, driver.ErrUnusable) {
		t.Errorf("got %v", err)
	}
	err := qemuConvert(ctx, reply(1, "qemu-img: Could not open '/d/a': bad"), "/d/a", "/d/b", Qcow2, 0)
	if !errors.Is(err, driver.ErrUnusable) || strings.Contains(err.Error(), "/d/") {
		t.Errorf("got %v", err)
	}
	if _, err := qemuInfo(ctx, reply(127, "prlimit: failed to execute qemu-img: No such file or directory"), "/d/a", Qcow2); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func FuzzDetectInspect(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03" + strings.Repeat("\x00", 200)))
	f.Add([]byte("KDMV" + strings.Repeat("\x00", 8) + "\x01" + strings.Repeat("\x00", 700) + "# Disk DescriptorFile\nversion=1"))
	f.Add([]byte("# comment\nversion=1\n"))
	f.Add([]byte(strings.Repeat("\x00", 100) + "conectix" + strings.Repeat("\x02", 504)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range []Format{Raw, Qcow2, VMDK, VHD, VHDX, VDI, qed} {
			v, err := Inspect(bytes.NewReader(b), int64(len(b)), format)
			if err != nil && !errors.Is(err, driver.ErrUnusable) {
				t.Fatal(err)
			}
			if err == nil && (v == 0 || v < -1) {
				t.Fatalf("%s has %d bytes", format, v)
			}
		}
		if _, err := Detect(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(`{"format": "qcow2", "virtual-size": 1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseInfo(b, Qcow2, "p"); err == nil && v <= 0 {
			t.Fatal(v)
		}
	})
}

// FuzzSparse: whatever the pieces, the file has the bytes.
func FuzzSparse(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 0, 9}, uint16(4095))
	f.Fuzz(func(t *testing.T, seed []byte, start uint16) {
		file, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		want := bytes.Repeat([]byte{7}, int(start))
		if _, err := file.Write(want); err != nil {
			t.Fatal(err)
		}
		w := &sparseWriter{f: file, off: int64(start)}
		for i, c := range seed[:min(len(seed), 40)] {
			p := bytes.Repeat([]byte{c & 1}, int(c)*97)
			if i%3 == 0 && len(p) > 0 {
				p[len(p)-1] = c
			}
			want = append(want, p...)
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.settle(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file.Name())
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
		}
	})
}

// convert makes an image of a format with the real qemu-img.
func convert(t *testing.T, content []byte, format string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.WriteFile(src, content, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", format}, args...), src, dst)...)
	out, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := (command.Exec{}).Run(context.WithoutCancel(t.Context()), command.Cmd{Name: "qemu-img", Args: args}); err != nil {
		t.Fatal(err)
	}
}
