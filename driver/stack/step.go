package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Op is what a step does.
type Op string

// Steps. Those after which the next ones can't be known without another look are
// barriers: see [Step.Barrier].
const (
	OpImport      Op = "import image"    // fetch from Glance
	OpLogin       Op = "log in"          // to the first of Portals that answers
	OpMakePath    Op = "make path"       // multipath over session Number
	OpSwitchPath  Op = "switch path"     // exchange the session beneath, I/O stays queued meanwhile
	OpReinstate   Op = "reinstate path"  // the same session works again
	OpLogout      Op = "log out"         // Portals[0]
	OpMakeLocal   Op = "make local"      // the cache's local devices
	OpStartCache  Op = "start cache"     //
	OpMakePage    Op = "make page"       // Name, over loop devices on cache or file Path
	OpMakeRelay   Op = "make relay"      // Name, over loop devices of its own on Path
	OpCreateThin  Op = "create thin"     // a volume's COW store; only if it never was
	OpCopyThin    Op = "copy thin"       // Thin begins as a copy of From
	OpActivate    Op = "activate thin"   //
	OpGrowThin    Op = "grow thin"       // Name, to Sectors
	OpReload      Op = "reload device"   // Name gets Table, larger than the one before
	OpMakeDevice  Op = "make device"     // Name from Table
	OpResume      Op = "resume device"   // left suspended by a crash
	OpExport      Op = "export"          // Target
	OpUnexport    Op = "end export"      // Target.IQN
	OpRemove      Op = "remove device"   // Name
	OpDeactivate  Op = "deactivate thin" // Name
	OpDeleteThin  Op = "delete thin"     // and its data
	OpDropPage    Op = "drop page"       // Name, and all loop devices on Path
	OpStopCache   Op = "stop cache"      // and forget its content
	OpDeleteLocal Op = "delete local"    // the cache's local devices
	OpRemoveFile  Op = "remove image"    // the image's file on an origin
)

// Step is one change of the node.
type Step struct {
	Op       Op
	ImageID  string
	VolumeID string
	Name     string // device-mapper name
	Table    driver.Table
	ReadOnly bool
	Portals  []model.ParentPortal
	Number   string // major:minor of a session's disk
	Thin     uint32
	From     uint32
	Together string // with which other copies
	Sectors  uint64
	Target   driver.Target
	Local    []LocalThin
	Path     string // of a device beneath
	Source   *model.ImageSource
}

// LocalThin is one of a cache's local devices.
type LocalThin struct {
	Name    string
	Thin    uint32
	Sectors uint64
}

// Barrier tells whether the rest of a plan depends on what this step brings about.
func (s Step) Barrier() bool {
	switch s.Op {
	case OpImport, OpLogin, OpMakePath, OpSwitchPath, OpReinstate, OpMakeLocal, OpStartCache, OpMakePage, OpStopCache:
		return true
	}
	return false
}

// String is for logs; it holds no secret.
func (s Step) String() string {
	what := s.Name
	switch {
	case what != "":
	case s.Target.IQN != "":
		what = s.Target.IQN
	case len(s.Portals) > 0:
		what = s.Portals[0].IQN + " at " + s.Portals[0].Address
	case s.VolumeID != "":
		what = "of volume " + s.VolumeID
	default:
		what = "of image " + s.ImageID
	}
	return fmt.Sprintf("%s %s", s.Op, what)
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte("vmthunder target fingerprint\x00" + secret))
	return hex.EncodeToString(sum[:8])
}
