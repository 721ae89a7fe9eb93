package model

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// Transfer is one row of table transfers: an offer of a volume to whoever has its key.
type Transfer struct {
	ID                   uuid.UUID  `db:"id"`
	VolumeID             uuid.UUID  `db:"volume_id"`
	Name                 *string    `db:"name"`
	Salt                 string     `db:"salt"`
	KeyHash              string     `db:"key_hash"` // see [HashTransferKey]
	NoSnapshots          bool       `db:"no_snapshots"`
	SourceProjectID      string     `db:"source_project_id"`
	DestinationProjectID *string    `db:"destination_project_id"` // who accepted it
	Accepted             bool       `db:"accepted"`
	CreatedAt            time.Time  `db:"created_at"`
	UpdatedAt            *time.Time `db:"updated_at"`
}

// NewTransferKey makes a key for a person to pass on and type in: 16 hexadecimal digits,
// as Cinder's are by default (volume_transfer_key_length). It also makes the salt that the key is stored with.
func NewTransferKey() (key, salt string) {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b[:8]), hex.EncodeToString(b[8:])
}

// HashTransferKey is what is stored of a key: HMAC-SHA-256 with the salt as the HMAC's
// key, in hexadecimal. (Cinder's is SHA-1.)
func HashTransferKey(salt, key string) string {
	m := hmac.New(sha256.New, []byte(salt))
	m.Write([]byte(key))
	return hex.EncodeToString(m.Sum(nil))
}

// Opens tells whether a key is that of the transfer. It takes the same time for all keys.
func (t *Transfer) Opens(key string) bool {
	return hmac.Equal([]byte(HashTransferKey(t.Salt, key)), []byte(t.KeyHash))
}
