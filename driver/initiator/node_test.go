package initiator

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vmthunder/vmthunder/driver/command"
)

// fakeNode is a node's /sys, /dev and /etc/iscsi in a folder, with the folders and links
// that a 6.1 kernel makes for a session, and an iscsiadm that works on it.
type fakeNode struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	next int
	// reply, if set, answers a login before it is done.
	reply func(iqn string) error
	lines []string
	// target is a listener that stands for any target's portal.
	target net.Listener
}

func newFakeNode(t *testing.T) *fakeNode {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{t: t, dir: t.TempDir(), target: l}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	for _, d := range []string{"sys/class/iscsi_session", "sys/class/iscsi_connection", "sys/block", "dev", "etc"} {
		f.mkdir(d)
	}
	f.file("etc/initiatorname.iscsi", "## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:81493ae137e3\n")
	return f
}

func (f *fakeNode) address() string { return f.target.Addr().String() }

func (f *fakeNode) mkdir(p string) {
	if err := os.MkdirAll(filepath.Join(f.dir, p), 0o700); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeNode) file(p, text string) {
	f.mkdir(filepath.Dir(p))
	if err := os.WriteFile(filepath.Join(f.dir, p), []byte(text), 0o600); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeNode) link(p, to string) {
	if err := os.Symlink(filepath.Join(f.dir, to), filepath.Join(f.dir, p)); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeNode) remove(p string) {
	if err := os.RemoveAll(filepath.Join(f.dir, p)); err != nil {
		f.t.Error(err)
	}
}

// session makes a session as the kernel does, and returns its id.
func (f *fakeNode) session(iqn, address, state string) int {
	f.next++
	n := f.next
	host, port, _ := net.SplitHostPort(address)
	dev := fmt.Sprintf("sys/devices/platform/host%d/session%d", n, n)
	sess := fmt.Sprintf("%s/iscsi_session/session%d", dev, n)
	f.file(sess+"/targetname", iqn+"\n")
	f.file(sess+"/state", state+"\n")
	f.file(sess+"/target_state", "SCANNED\n")
	f.link(sess+"/device", dev)
	f.link(fmt.Sprintf("sys/class/iscsi_session/session%d", n), sess)
	conn := fmt.Sprintf("%s/connection%d:0/iscsi_connection/connection%d:0", dev, n, n)
	f.file(conn+"/persistent_address", host+"\n")
	f.file(conn+"/persistent_port", port+"\n")
	f.link(fmt.Sprintf("sys/class/iscsi_connection/connection%d:0", n), conn)
	f.mkdir(fmt.Sprintf("%s/target%d:0:0/%d:0:0:1", dev, n, n)) // tgtd's controller has no disk
	disk := "sd" + string(rune('a'+n-1))
	lun := fmt.Sprintf("%s/target%d:0:0/%d:0:0:0", dev, n, n)
	block := lun + "/block/" + disk
	f.file(block+"/size", "65536\n")
	f.file(block+"/queue/scheduler", "[mq-deadline] kyber none\n")
	f.mkdir(block + "/holders")
	f.file(lun+"/timeout", "60\n")
	f.file(lun+"/delete", "")
	f.link(block+"/device", lun)
	f.link("sys/block/"+disk, block)
	f.file("dev/"+disk, "")
	return n
}

// logout takes a session away.
func (f *fakeNode) logout(id string) {
	f.remove("sys/class/iscsi_session/session" + id)
	f.remove("sys/class/iscsi_connection/connection" + id + ":0")
	links, _ := filepath.Glob(filepath.Join(f.dir, "sys/devices/platform/host"+id+"/session"+id+"/target*/*/block/*"))
	for _, l := range links {
		f.remove("sys/block/" + filepath.Base(l))
		f.remove("dev/" + filepath.Base(l))
	}
	f.remove("sys/devices/platform/host" + id)
}

// iscsiadm answers a command as open-iscsi does.
func (f *fakeNode) iscsiadm(c command.Cmd) (command.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := c.String()
	f.lines = append(f.lines, line)
	if rest, ok := strings.CutPrefix(line, "iscsiadm -m session -r "); ok {
		id := strings.TrimSuffix(rest, " --logout")
		if _, err := os.Stat(filepath.Join(f.dir, "sys/class/iscsi_session/session"+id)); err != nil {
			return command.Result{}, command.Failure(c, codeSessionNotFound, "no session")
		}
		f.logout(id)
		return command.Result{}, nil
	}
	iqn, address := c.Args[3], c.Args[5]
	host, port, _ := net.SplitHostPort(address)
	record := filepath.Join(f.dir, "etc/nodes", iqn, host+","+port+",1", "default")
	if _, err := os.Stat(record); err != nil {
		return command.Result{}, command.Failure(c, codeNothingFound, "No records found")
	}
	if f.reply != nil {
		if err := f.reply(iqn); err != nil {
			return command.Result{}, err
		}
	}
	f.session(iqn, address, "LOGGED_IN")
	return command.Result{}, nil
}

func (f *fakeNode) initiator(o Options) *Initiator {
	o.Sys, o.Dev, o.Etc, o.Home = filepath.Join(f.dir, "sys"), filepath.Join(f.dir, "dev"), filepath.Join(f.dir, "etc"), filepath.Join(f.dir, "etc")
	o.Lock = filepath.Join(f.dir, "lock")
	return New(&command.Recorder{Reply: f.iscsiadm}, o)
}
