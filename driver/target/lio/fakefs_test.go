package lio

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// fakeFS is as much of LIO's configfs as this package relies on: the files and groups
// that a mkdir brings along, what refuses to be removed, and what a write does.
type fakeFS struct {
	nodes map[string]*fakeNode
	// left counts the changes until every change fails, as after a crash; negative: never.
	left int
	log  []string // changes, without values
}

type fakeNode struct {
	kind  fs.FileMode // directory, link or 0 for an attribute
	made  bool        // by mkdir, not by the kernel
	value string      // of an attribute, or what a link points to
}

func newFakeFS() *fakeFS {
	f := &fakeFS{nodes: map[string]*fakeNode{}, left: -1}
	f.add("core", fs.ModeDir)
	f.add("core/alua", fs.ModeDir)
	return f
}

func (f *fakeFS) add(p string, kind fs.FileMode) *fakeNode {
	n := &fakeNode{kind: kind}
	f.nodes[p] = n
	return n
}

func fail(op, p string, e syscall.Errno) error { return &fs.PathError{Op: op, Path: p, Err: e} }

var errCrash = errors.New("crash")

func (f *fakeFS) change(op, p string) error {
	if f.left == 0 {
		return errCrash
	}
	f.left--
	f.log = append(f.log, op+" "+p)
	return nil
}

var (
	reHBA    = regexp.MustCompile(`^core/iblock_\d+$`)
	reStore  = regexp.MustCompile(`^core/iblock_\d+/[^/]+$`)
	reFabric = regexp.MustCompile(`^iscsi$`)
	reTarget = regexp.MustCompile(`^iscsi/[^/]+$`)
	reGroup  = regexp.MustCompile(`^iscsi/[^/]+/tpgt_1$`)
	reLUN    = regexp.MustCompile(`^iscsi/[^/]+/tpgt_1/lun/lun_\d+$`)
	rePortal = regexp.MustCompile(`^iscsi/[^/]+/tpgt_1/np/[^/]+$`)
	reACL    = regexp.MustCompile(`^iscsi/[^/]+/tpgt_1/acls/[^/]+$`)
	reMapped = regexp.MustCompile(`^iscsi/[^/]+/tpgt_1/acls/[^/]+/lun_\d+$`)
)

func (f *fakeFS) mkdir(p string) error {
	if f.nodes[p] != nil {
		return fail("mkdir", p, syscall.EEXIST)
	}
	if f.nodes[path.Dir(p)] == nil && path.Dir(p) != "." {
		return fail("mkdir", p, syscall.ENOENT)
	}
	var groups []string
	attrs := map[string]string{}
	switch {
	case reHBA.MatchString(p), rePortal.MatchString(p), reTarget.MatchString(p), reFabric.MatchString(p):
	case reStore.MatchString(p):
		groups = []string{"wwn", "attrib"}
		attrs = map[string]string{"control": "", "udev_path": "", "enable": "0\n", "info": "", "wwn/vpd_unit_serial": "T10 VPD Unit Serial Number: \n"}
	case reGroup.MatchString(p):
		groups = []string{"attrib", "lun", "np", "acls"}
		attrs = map[string]string{"enable": "0\n"}
		for _, a := range []string{"authentication", "generate_node_acls", "demo_mode_write_protect", "demo_mode_discovery", "prod_mode_write_protect", "login_timeout", "default_cmdsn_depth"} {
			attrs["attrib/"+a] = "?\n"
		}
	case reLUN.MatchString(p):
		groups = []string{"statistics"}
	case reACL.MatchString(p):
		groups = []string{"auth", "attrib"}
		attrs = map[string]string{
			"auth/userid": "\n", "auth/password": "\n", "attrib/nopin_timeout": "15\n", "attrib/nopin_response_timeout": "30\n",
			"cmdsn_depth": "64\n", "info": "No active iSCSI Session for Initiator Endpoint: " + path.Base(p) + "\n",
		}
	case reMapped.MatchString(p):
		groups = []string{"statistics"}
		attrs = map[string]string{"write_protect": "0\n"}
	default:
		return fail("mkdir", p, syscall.EINVAL)
	}
	if err := f.change("mkdir", p); err != nil {
		return err
	}
	f.add(p, fs.ModeDir).made = true
	for _, g := range groups {
		f.add(path.Join(p, g), fs.ModeDir)
	}
	for a, v := range attrs {
		f.add(path.Join(p, a), 0).value = v
	}
	return nil
}

func (f *fakeFS) rmdir(p string) error {
	n := f.nodes[p]
	if n == nil {
		return fail("rmdir", p, syscall.ENOENT)
	}
	if !n.made {
		return fail("rmdir", p, syscall.EPERM)
	}
	for q, c := range f.nodes {
		if strings.HasPrefix(q, p+"/") && (c.made || c.kind == fs.ModeSymlink) {
			return fail("rmdir", p, syscall.ENOTEMPTY)
		}
		if c.kind == fs.ModeSymlink && c.value == p {
			return fail("rmdir", p, syscall.EBUSY)
		}
	}
	if err := f.change("rmdir", p); err != nil {
		return err
	}
	for q := range f.nodes {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(f.nodes, q)
		}
	}
	return nil
}

func (f *fakeFS) symlink(target, link string) error {
	to := f.nodes[target]
	if to == nil {
		return fail("symlink", link, syscall.ENOENT)
	}
	if reStore.MatchString(target) && f.nodes[target+"/enable"].value != "1\n" {
		return fail("symlink", link, syscall.ENODEV)
	}
	if err := f.change("symlink", link); err != nil {
		return err
	}
	f.add(link, fs.ModeSymlink).value = target
	return nil
}

func (f *fakeFS) unlink(p string) error {
	if n := f.nodes[p]; n == nil || n.kind != fs.ModeSymlink {
		return fail("unlink", p, syscall.ENOENT)
	}
	if err := f.change("unlink", p); err != nil {
		return err
	}
	delete(f.nodes, p)
	return nil
}

func (f *fakeFS) readlink(p string) (string, error) {
	if n := f.nodes[p]; n != nil && n.kind == fs.ModeSymlink {
		return n.value, nil
	}
	return "", fail("readlink", p, syscall.ENOENT)
}

func (f *fakeFS) read(p string) (string, error) {
	if n := f.nodes[p]; n != nil && n.kind == 0 {
		return n.value, nil
	}
	return "", fail("read", p, syscall.ENOENT)
}

func (f *fakeFS) write(p, value string) error {
	n := f.nodes[p]
	if n == nil || n.kind != 0 {
		return fail("write", p, syscall.ENOENT)
	}
	if strings.Contains(value, "\n") {
		return fail("write", p, syscall.EINVAL) // the kernel would keep it in a secret
	}
	if err := f.change("write", p); err != nil {
		return err
	}
	dir := path.Dir(p)
	switch {
	case path.Base(p) == "control":
		dev, ro, _ := strings.Cut(strings.TrimPrefix(value, "udev_path="), ",readonly=")
		f.nodes[dir+"/info"].value = fmt.Sprintf("Status: DEACTIVATED\n        iBlock device: dm-0  UDEV PATH: %s  readonly: %s\n        Major: 254 Minor: 0  CLAIMED: IBLOCK\n", dev, ro)
	case path.Base(p) == "vpd_unit_serial":
		n.value = "T10 VPD Unit Serial Number: " + value + "\n"
	case path.Base(p) == "cmdsn_depth":
		n.value = value + "\n"
		f.nodes[dir+"/info"].value = "No active iSCSI Session for Initiator Endpoint: x\n"
	case path.Base(p) == "enable" && reGroup.MatchString(dir):
		n.value = value + "\n"
		for q, c := range f.nodes {
			if value == "0" && strings.HasPrefix(q, dir+"/acls/") && path.Base(q) == "info" {
				c.value = "No active iSCSI Session for Initiator Endpoint: x\n"
			}
		}
	default:
		n.value = value + "\n"
	}
	return nil
}

func (f *fakeFS) dirs(p string) ([]string, error)  { return f.names(p, fs.ModeDir) }
func (f *fakeFS) links(p string) ([]string, error) { return f.names(p, fs.ModeSymlink) }

func (f *fakeFS) names(p string, kind fs.FileMode) ([]string, error) {
	if f.nodes[p] == nil {
		return nil, fail("readdir", p, syscall.ENOENT)
	}
	var names []string
	for q, n := range f.nodes {
		if path.Dir(q) == p && n.kind == kind {
			names = append(names, path.Base(q))
		}
	}
	slices.Sort(names)
	return names, nil
}

// made returns all that was made and not removed, save the fabric's own directory.
func (f *fakeFS) made() []string {
	var all []string
	for p, n := range f.nodes {
		if p != "iscsi" && (n.made || n.kind == fs.ModeSymlink) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// login makes a session for an initiator.
func (f *fakeFS) login(iqn, initiator string) {
	f.nodes[path.Join("iscsi", iqn, "tpgt_1/acls", initiator, "info")].value = "InitiatorName: " + initiator + "\nInitiatorAlias: x\nSession State: TARG_SESS_STATE_LOGGED_IN\n"
}
