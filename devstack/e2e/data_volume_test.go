//go:build lab

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/driver"
)

// A blank volume is zeros, keeps what is written over detaching and a power cut, and leaves
// nothing of it to the next one.
func TestDataBlank(t *testing.T) {
	s := current(t)
	data := s.image(t, 8*mib)
	x := s.newAttached(t, "", n1)
	s.zeros(t, n1, x.device, 0, 1024*mib)
	places := []int{0, 512*mib + 4096, 1016 * mib}
	for _, at := range places {
		s.write(t, n1, x.device, at, data.bytes)
	}
	check := func(when string) {
		t.Helper()
		for _, at := range places {
			s.same(t, n1, x.device, at, data.bytes)
		}
		s.zeros(t, n1, x.device, 8*mib, 504*mib)
		if t.Failed() {
			t.Fatal(when)
		}
	}
	check("as written")
	s.detach(t, x)
	x = s.attach(t, x.volume, n1)
	check("after detaching")
	s.reboot(t, n1)
	s.waitDevice(t, x)
	check("after a power cut")
	s.drop(t, x)

	y := s.newAttached(t, "", n1)
	s.zeros(t, n1, y.device, 0, 1024*mib)
	// A write of one block of 4 KiB takes a block of the pool, whose rest must be zeros too.
	for _, at := range []int{0, 100 * mib, 512 * mib} {
		s.write(t, n1, y.device, at+16384, data.bytes[:4096])
		s.zeros(t, n1, y.device, at, 16384)
		s.zeros(t, n1, y.device, at+16384+4096, 8*mib)
	}
	s.drop(t, y)
}

// A host without an agent reaches a volume over iSCSI, at its home with LIO and at one with
// tgtd: it alone, with its secret alone, and its writes are there at home.
func TestDataForeignHost(t *testing.T) {
	s := current(t)
	for _, home := range []string{n1, tgt} {
		t.Run(home, func(t *testing.T) {
			img, data := s.image(t, 16*mib), s.image(t, 4*mib)
			x := s.newAttached(t, img.id, home)
			s.detach(t, x)
			a, err := s.admin.Attach(limit(t, time.Minute), x.volume, "elsewhere", s.node(t, n2).Initiator())
			if err != nil {
				t.Fatal(err)
			}
			p := portal{}
			for key, to := range map[string]*string{"target_iqn": &p.iqn, "target_portal": &p.address, "auth_username": &p.user, "auth_password": &p.secret} {
				if *to, _ = a.ConnectionInfo[key].(string); *to == "" {
					t.Fatalf("no %s in %v", key, a.ConnectionInfo)
				}
			}
			if want := driver.VolumeIQN(home, x.volume); p.iqn != want {
				t.Errorf("the target is %s, wanted %s", p.iqn, want)
			}
			lun := fmt.Sprint(a.ConnectionInfo["target_lun"])

			wrong := p
			wrong.secret = "wrongwrongwrong"
			if out, err := s.login(t, n2, wrong); err == nil {
				t.Errorf("a wrong secret was let in: %s", out)
			}
			if out, err := s.login(t, n3, p); err == nil {
				t.Errorf("another initiator with the right secret was let in: %s", out)
			}
			none := p
			none.user = ""
			if out, err := s.login(t, n2, none); err == nil {
				t.Errorf("no secret was let in: %s", out)
			}
			if out, err := s.login(t, n2, p); err != nil {
				t.Fatalf("log in: %v: %s", err, out)
			}
			device := s.diskOf(t, n2, p.iqn, lun)
			s.same(t, n2, device, 0, img.bytes)
			s.write(t, n2, device, 8*mib, data.bytes)
			s.write(t, n2, device, 600*mib, data.bytes)
			want := append(append(bytes.Clone(img.bytes[:8*mib]), data.bytes...), img.bytes[12*mib:]...)
			s.same(t, n2, device, 0, want)
			s.logout(t, n2, p)
			s.detach(t, attached{volume: x.volume, node: "elsewhere", id: a.ID})
			if out := s.run(t, home, leftovers); strings.Contains(out, p.iqn) {
				t.Errorf("detached, and exported still: %s", out)
			}
			x = s.attach(t, x.volume, home)
			s.same(t, home, x.device, 0, want)
			s.same(t, home, x.device, 600*mib, data.bytes)
			s.drop(t, x)
		})
	}
}

// portal is where a host logs in to a volume.
type portal struct{ iqn, address, user, secret string }

// login logs a node in as os-brick does. What fails leaves no session and no record.
func (s *site) login(t *testing.T, node string, p portal) (string, error) {
	t.Helper()
	base := fmt.Sprintf("iscsiadm -m node -T %s -p %s", p.iqn, p.address)
	script := fmt.Sprintf("%[1]s -o new >/dev/null && ", base)
	if p.user != "" {
		script += fmt.Sprintf("%[1]s -o update -n node.session.auth.authmethod -v CHAP && %[1]s -o update -n node.session.auth.username -v %[2]s && %[1]s -o update -n node.session.auth.password -v %[3]s && ", base, p.user, p.secret)
	}
	script += fmt.Sprintf("%[1]s -o update -n node.session.initial_login_retry_max -v 1 && %[1]s --login 2>&1", base)
	out, err := s.tryRun(t, node, script)
	if err != nil {
		s.run(t, node, base+" --logout >/dev/null 2>&1; "+base+" -o delete")
		if left := s.sessions(t, node); strings.Contains(left, p.iqn) {
			t.Errorf("%s has a session after a login that failed (%v)", node, err)
		}
	}
	return out, err
}

func (s *site) logout(t *testing.T, node string, p portal) {
	t.Helper()
	s.run(t, node, fmt.Sprintf("sync; iscsiadm -m node -T %[1]s -p %[2]s --logout && iscsiadm -m node -T %[1]s -p %[2]s -o delete", p.iqn, p.address))
}

// diskOf is the disk of a node's session to a target.
func (s *site) diskOf(t *testing.T, node, iqn, lun string) string {
	t.Helper()
	var disk string
	until(t, 30*time.Second, "the disk of "+iqn, func() (bool, error) {
		out, err := s.tryRun(t, node, fmt.Sprintf(`for d in /sys/class/iscsi_session/*; do
read -r n <$d/targetname; [ "$n" = %s ] && ls -d $d/device/target*/*:%s/block/sd*; done; true`, iqn, lun))
		disk = "/dev/" + out[strings.LastIndex(out, "/")+1:]
		return out != "", err
	})
	return disk
}

// A hundred volumes of one image on one node, attached eight at a time: each has the image's
// bytes and then its own.
func TestDataHundred(t *testing.T) {
	const count = 100
	s := current(t)
	img := s.image(t, 64*mib)
	as := make([]attached, count)
	as[0].volume = s.create(t, img.id)
	each := func(what string, f func(i int) error) {
		t.Helper()
		begin := time.Now()
		var g errgroup.Group
		g.SetLimit(8)
		for i := range count {
			g.Go(func() error { return f(i) })
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: %.1f s", what, time.Since(begin).Seconds())
	}
	ctx := limit(t, 4*time.Minute)
	each("create", func(i int) error {
		if i == 0 {
			return nil
		}
		v, err := s.admin.CreateVolume(ctx, fmt.Sprint("hundred-", i), img.id, 1)
		as[i].volume = v.ID
		return err
	})
	before := s.freeMemory(t, vmhost)
	each("attach", func(i int) (err error) {
		as[i], err = s.tryAttach(t, as[i].volume, vmhost)
		return err
	})
	t.Logf("a volume that stands takes %d KiB of the node's memory", (before-s.freeMemory(t, vmhost))/count)
	// One program in the node looks at all of them: a fork costs more there than a read.
	var devices []string
	for _, x := range as {
		devices = append(devices, x.device)
	}
	const piece = 512 << 10
	script := fmt.Sprintf(`import os, mmap, hashlib, sys
buf = mmap.mmap(-1, %[1]d)
def each(f):
    for i, d in enumerate(sys.argv[1:]):
        fd = os.open(d, os.O_RDWR | os.O_DIRECT)
        f(i, fd)
        os.close(fd)
def look(i, fd):
    n = os.preadv(fd, [buf], i * %[1]d)
    print(hashlib.sha256(buf[:n]).hexdigest())
def mark(i, fd):
    buf[:4096] = i.to_bytes(4, 'big') * 1024
    os.pwritev(fd, [memoryview(buf)[:4096]], 32 << 20)
def marked(i, fd):
    os.preadv(fd, [memoryview(buf)[:8192]], 32 << 20)
    print(int.from_bytes(buf[:4], 'big'), buf[:4096] == i.to_bytes(4, 'big') * 1024, hashlib.sha256(buf[4096:8192]).hexdigest())
each(look); each(mark); each(marked)
`, piece)
	out, err := s.node(t, vmhost).Exec(limit(t, 3*time.Minute), lab.Command{Argv: append([]string{"python3", "-c", script}, devices...)}, nil)
	if err != nil || out.Code != 0 {
		t.Fatalf("look at the volumes: %v, %s", err, out.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(out.Stdout), "\n")
	if len(lines) != 2*count {
		t.Fatalf("%d lines: %s", len(lines), out.Stdout)
	}
	after := digest(img.bytes[32*mib+4096 : 32*mib+8192])
	for i := range count {
		want := bytes.Clone(img.bytes[i*piece : (i+1)*piece])
		if lines[i] != digest(want) {
			t.Errorf("volume %d (%s) has other bytes at %d", i, as[i].volume, i*piece)
		}
		if want := fmt.Sprintf("%d True %s", i, after); lines[count+i] != want {
			t.Errorf("volume %d has its mark as %q, wanted %q", i, lines[count+i], want)
		}
	}
	each("detach", func(i int) error { return s.nova.Detach(ctx, as[i].id) })
	each("delete", func(i int) error { return s.admin.DeleteVolume(ctx, as[i].volume) })
	for _, x := range as {
		if err := s.admin.WaitGone(ctx, x.volume, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// freeMemory of a node in KiB, without what its page cache holds.
func (s *site) freeMemory(t *testing.T, node string) int {
	t.Helper()
	s.dropCaches(t, node)
	n, err := strconv.Atoi(s.run(t, node, "awk '/^MemFree/ {print $2}' /proc/meminfo"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
