// Package image builds the laboratory's bootable disk image: a Debian kernel, a RAM disk
// of busybox and a few modules, and an ext4 root with files of known content. A virtual
// machine that boots it checks every file, counts the boot on the disk and prints
//
//	BOOTED <disk serial> <number of boots>
//
// on its serial port, or BOOTFAILED and why. It is built without mounts and without
// loop devices, from Debian's packages linux-image-amd64, busybox-static, e2fsprogs,
// dosfstools, mtools, syslinux and qemu-utils.
//
// Layout (MiB): 0 master boot record of syslinux, 1-21 FAT16 with boot loader, kernel
// and RAM disk, 21-64 the root.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the init script
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript []byte

const (
	mib       = 1 << 20
	fatStart  = 1 * mib
	fatSize   = 20 * mib
	rootStart = fatStart + fatSize
	rootSize  = 43 * mib
	// Size is the image's size in bytes, 64 MiB.
	Size = rootStart + rootSize

	checkedFiles = 8
	checkedSize  = 512 << 10
	coldSize     = 16 * mib
	version      = 1 // raised when the image changes without one of its inputs doing so
)

// syslinuxConf boots at once. The kernel knows no faster clock under emulation than the
// one it would waste half a second on finding out about.
const syslinuxConf = `DEFAULT vmthunder
PROMPT 0
TIMEOUT 0
LABEL vmthunder
  LINUX vmlinuz
  INITRD initrd
  APPEND console=ttyS0 quiet panic=1 tsc=unstable random.trust_cpu=on mitigations=off audit=0 selinux=0 apparmor=0 nokaslr no_timer_check cryptomgr.notests
`

// Image is a built image. Files are the ones a boot checks, by name, with their SHA-256
// sums; Cold is one that no boot reads.
type Image struct {
	Raw    string            `json:"raw"`   // path of the raw disk
	QCOW2  string            `json:"qcow2"` // path of the same as qcow2
	SHA256 string            `json:"sha256"`
	Size   int64             `json:"size"`
	Files  map[string]string `json:"files"`
	Cold   string            `json:"cold"`
}

// ErrMissing is returned when a package the image is made of is not installed.
var ErrMissing = errors.New("not installed; run devstack/packages.sh image")

// inputs are the host files an image is made of.
type inputs struct {
	kernel, modules, busybox, mbr string
	tools                         map[string]string
}

func findInputs() (inputs, error) {
	in := inputs{busybox: "/bin/busybox", tools: map[string]string{}}
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-amd64") // the pattern is well-formed
	slices.Sort(kernels)
	for _, k := range slices.Backward(kernels) {
		m := filepath.Join("/lib/modules", strings.TrimPrefix(filepath.Base(k), "vmlinuz-"))
		if _, err := os.Stat(filepath.Join(m, "modules.dep")); err == nil {
			in.kernel, in.modules = k, m
			break
		}
	}
	if in.kernel == "" {
		return in, fmt.Errorf("a kernel and its modules: %w", ErrMissing)
	}
	for _, p := range []string{"/usr/lib/SYSLINUX/mbr.bin", "/usr/lib/syslinux/mbr/mbr.bin"} {
		if _, err := os.Stat(p); err == nil {
			in.mbr = p
			break
		}
	}
	if in.mbr == "" {
		return in, fmt.Errorf("mbr.bin of syslinux: %w", ErrMissing)
	}
	for _, t := range []string{"mkfs.ext4", "mkfs.fat", "mcopy", "syslinux", "qemu-img"} {
		p, err := exec.LookPath(t)
		if err != nil {
			return in, fmt.Errorf("%s: %w", t, ErrMissing)
		}
		in.tools[t] = p
	}
	return in, nil
}

// key names an image by all it is made of.
func (in inputs) key() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, version, Size, syslinuxConf, moduleNames(), ataModuleNames())
	_, _ = h.Write(initScript)
	for _, p := range []string{in.kernel, in.busybox, in.mbr, filepath.Join(in.modules, "modules.dep")} {
		st, err := os.Stat(p)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrMissing, err)
		}
		fmt.Fprintln(h, p, st.Size(), st.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Build returns the image, from dir when it was built there before. progress may be nil.
func Build(ctx context.Context, dir string, progress func(format string, args ...any)) (*Image, error) {
	in, err := findInputs()
	if err != nil {
		return nil, fmt.Errorf("boot image: %w", err)
	}
	key, err := in.key()
	if err != nil {
		return nil, fmt.Errorf("boot image: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	final := filepath.Join(dir, "image-"+key)
	lock, err := os.OpenFile(final+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	if img, err := load(final); err == nil {
		return img, nil
	}
	if progress != nil {
		progress("building the boot image, once")
	}
	work := final + ".new"
	if err := os.RemoveAll(work); err != nil {
		return nil, err
	}
	if err := in.build(ctx, work); err != nil {
		return nil, fmt.Errorf("boot image: %w", err)
	}
	if err := os.RemoveAll(final); err != nil {
		return nil, err
	}
	if err := os.Rename(work, final); err != nil {
		return nil, err
	}
	return load(final)
}

func load(dir string) (*Image, error) {
	b, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err != nil {
		return nil, err
	}
	var img Image
	if err := json.Unmarshal(b, &img); err != nil {
		return nil, err
	}
	img.Raw, img.QCOW2 = filepath.Join(dir, "boot.raw"), filepath.Join(dir, "boot.qcow2")
	st, err := os.Stat(img.Raw)
	if err != nil || st.Size() != img.Size {
		return nil, fmt.Errorf("image in %s is not whole", dir)
	}
	return &img, nil
}

func (in inputs) build(ctx context.Context, work string) error {
	root := filepath.Join(work, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	img := Image{Size: Size, Cold: "cold"}
	var err error
	if img.Files, err = fillRoot(root); err != nil {
		return err
	}
	fat, ext4, raw := filepath.Join(work, "fat"), filepath.Join(work, "ext4"), filepath.Join(work, "boot.raw")
	if err := in.buildFAT(ctx, work, fat); err != nil {
		return err
	}
	if err := sparse(ext4, rootSize); err != nil {
		return err
	}
	err = run(ctx, in.tools["mkfs.ext4"], "-q", "-F", "-b", "4096", "-m", "0", "-L", "vmthunder-root", "-d", root, "-O", "^has_journal,^metadata_csum,^64bit",
		"-E", "lazy_itable_init=0,hash_seed=11111111-2222-3333-4444-555555555555", "-U", "11111111-2222-3333-4444-555555555555", ext4)
	if err != nil {
		return err
	}
	if err := assemble(raw, in.mbr, fat, ext4); err != nil {
		return err
	}
	if img.SHA256, err = sumFile(raw); err != nil {
		return err
	}
	if err := run(ctx, in.tools["qemu-img"], "convert", "-f", "raw", "-O", "qcow2", raw, filepath.Join(work, "boot.qcow2")); err != nil {
		return err
	}
	for _, p := range []string{root, fat, ext4, filepath.Join(work, "initrd")} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(img, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(work, "image.json"), b, 0o644)
}

// Content is the content of a file of the image: the same pseudo-random bytes in every
// build, different for each name.
func Content(name string, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("vmthunder boot image " + name))).Read(b) // never fails
	return b
}

func fillRoot(root string) (map[string]string, error) {
	sums := map[string]string{}
	var list strings.Builder
	for i := range checkedFiles {
		name := fmt.Sprintf("checked%d", i+1)
		b := Content(name, checkedSize)
		sum := sha256.Sum256(b)
		sums[name] = hex.EncodeToString(sum[:])
		fmt.Fprintf(&list, "%s  %s\n", sums[name], name)
		if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "cold"), Content("cold", coldSize), 0o644); err != nil {
		return nil, err
	}
	return sums, os.WriteFile(filepath.Join(root, "SHA256SUMS"), []byte(list.String()), 0o644)
}

func (in inputs) buildFAT(ctx context.Context, work, fat string) error {
	initrd := filepath.Join(work, "initrd")
	if err := in.buildInitrd(initrd); err != nil {
		return err
	}
	conf := filepath.Join(work, "syslinux.cfg")
	if err := os.WriteFile(conf, []byte(syslinuxConf), 0o644); err != nil {
		return err
	}
	if err := sparse(fat, fatSize); err != nil {
		return err
	}
	// The boot sector wants to know where its partition begins (-h, in sectors).
	if err := run(ctx, in.tools["mkfs.fat"], "-F", "16", "-n", "VMTBOOT", "-i", "56544d42", "-h", fmt.Sprint(fatStart/sector), fat); err != nil {
		return err
	}
	for from, to := range map[string]string{in.kernel: "::vmlinuz", initrd: "::initrd", conf: "::syslinux.cfg"} {
		if err := run(ctx, in.tools["mcopy"], "-i", fat, from, to); err != nil {
			return err
		}
	}
	return run(ctx, in.tools["syslinux"], "--install", fat)
}

func assemble(raw, mbrCode, fat, ext4 string) error {
	code, err := os.ReadFile(mbrCode)
	if err != nil {
		return err
	}
	f, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(Size); err != nil {
		return err
	}
	table := mbr(code, 0x56544d42, []partition{
		{kind: 0x0e, active: true, start: fatStart / sector, size: fatSize / sector},
		{kind: 0x83, start: rootStart / sector, size: rootSize / sector},
	})
	if _, err := f.WriteAt(table[:], 0); err != nil {
		return err
	}
	for _, p := range []struct {
		path string
		at   int64
	}{{fat, fatStart}, {ext4, rootStart}} {
		if err := copySparse(f, p.at, p.path); err != nil {
			return err
		}
	}
	return f.Sync()
}

// copySparse copies a file to an offset of another and leaves holes where it is zero.
func copySparse(to *os.File, at int64, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := to.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func run(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=1", "E2FSPROGS_FAKE_TIME=1700000000", "SOURCE_DATE_EPOCH=1700000000"}
	if p := os.Getenv("PATH"); p != "" {
		cmd.Env[0] = "PATH=" + p
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
