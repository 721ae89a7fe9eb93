package driver

import "context"

// Credential is a CHAP name and secret (RFC 3720 section 11.1). Secrets have 12 to 16 bytes.
type Credential struct {
	User   string `json:"user"`
	Secret string `json:"secret"`
}

// String hides the secret from logs and errors.
func (c Credential) String() string { return c.User + ":***" }

// GoString hides the secret from %#v.
func (c Credential) GoString() string { return c.String() }

// ACL lets one initiator in.
type ACL struct {
	Initiator string // IQN
	Credential
}

// Target is one exported device: one target, one LUN.
type Target struct {
	IQN      string
	Device   string // path
	Portal   string // IP:PORT to listen on
	ReadOnly bool
	// Serial is the unit serial number that initiators see, at most 36 bytes.
	Serial string
	ACLs   []ACL // exactly these get in; none means nobody
}

// TargetState is a target that stands.
type TargetState struct {
	IQN      string
	Device   string
	LUN      int
	ReadOnly bool
	ACLs     []string // initiators let in
	Sessions []string // initiators logged in now
}

// TargetHelper exports devices over iSCSI: LIO through configfs or tgtd.
type TargetHelper interface {
	// Name is lioadm or tgtadm, as in cinder.conf's target_helper.
	Name() string
	// Ensure makes the target stand exactly as described and returns its state.
	// Changing the ACLs disturbs no session of an initiator that stays.
	Ensure(ctx context.Context, t Target) (TargetState, error)
	// Remove ends all sessions of the target and removes it and its backstore.
	// The device is free to be removed when it returns.
	Remove(ctx context.Context, iqn string) error
	// List returns the targets whose IQN begins with prefix.
	List(ctx context.Context, prefix string) ([]TargetState, error)
}

// Portal is where to log in.
type Portal struct {
	Address string // IP:PORT
	IQN     string
	Credential
}

// SessionState is an iSCSI session's state in /sys/class/iscsi_session.
type SessionState string

// Session states.
const (
	SessionLoggedIn SessionState = "LOGGED_IN"
	SessionFailed   SessionState = "FAILED" // connection lost, commands held back
	SessionFree     SessionState = "FREE"
)

// Session is an iSCSI session of this node.
type Session struct {
	ID      int
	IQN     string
	Address string // IP:PORT of the persistent portal
	State   SessionState
	Device  string // /dev/sdX of its only disk, "" while there is none
}

// Initiator is open-iscsi on this node.
type Initiator interface {
	// Name returns the node's own IQN.
	Name(ctx context.Context) (string, error)
	// Login makes a session and waits for its disk. A session with the same
	// target and address that is logged in is returned as it is.
	// ErrAuth, ErrUnreachable and ErrNotFound (no such target) are told apart.
	Login(ctx context.Context, p Portal) (Session, error)
	// Logout removes the session's disk and the session. It works on a dead
	// session too, and returns only when the disk is gone from the kernel.
	Logout(ctx context.Context, iqn, address string) error
	// Sessions returns the sessions whose target begins with prefix, from /sys.
	Sessions(ctx context.Context, prefix string) ([]Session, error)
}
