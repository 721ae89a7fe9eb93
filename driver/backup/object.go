package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// ErrCorrupt: an object is not what was stored. Trying again does not help.
var ErrCorrupt = errors.New("damaged backup")

const (
	objectMagic   = "VMTB"
	objectVersion = 1
	headBytes     = 44

	kindChunk    = 1
	kindManifest = 2

	compressNone = 0
	compressZstd = 1

	encryptNone = 0
	encryptGCM  = 1
)

// Limits of what is read back.
const (
	maxChunk    = 64 << 20
	minChunk    = 64 << 10
	maxManifest = 1 << 30
	overhead    = 64 << 10 // what an object may be larger than its content
)

// Hash names a content.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// KeyBytes is the length of a configured key.
const KeyBytes = 32

// codec makes objects of contents and back. It is safe for concurrent use.
type codec struct {
	names, contents []byte // keys; nil: not encrypted
	enc             *zstd.Encoder
	dec             *zstd.Decoder
}

// newCodec takes a key of [KeyBytes], or none.
func newCodec(key []byte, compress bool) (*codec, error) {
	c := &codec{}
	var err error
	if compress {
		if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault)); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	}
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxChunk)); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if key == nil {
		return c, nil
	}
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("the key of backups has %d bytes, %d are needed", len(key), KeyBytes)
	}
	if c.names, err = hkdf.Key(sha256.New, key, nil, "vmthunder backup names 1", KeyBytes); err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	if c.contents, err = hkdf.Key(sha256.New, key, nil, "vmthunder backup contents 1", KeyBytes); err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return c, nil
}

// hash is the name of a content in this repository.
func (c *codec) hash(content []byte) Hash {
	if c.names == nil {
		return sha256.Sum256(content)
	}
	return mac(c.names, content)
}

func mac(key, content []byte) (h Hash) {
	m := hmac.New(sha256.New, key)
	m.Write(content)
	m.Sum(h[:0])
	return h
}

// seal makes an object of a content whose hash is h.
func (c *codec) seal(kind byte, h Hash, content []byte) ([]byte, error) {
	head := make([]byte, headBytes, headBytes+len(content)+overhead)
	copy(head, objectMagic)
	head[4], head[5] = objectVersion, kind
	binary.BigEndian.PutUint32(head[8:], uint32(len(content))) //nolint:gosec // G115: below maxManifest
	copy(head[12:], h[:])
	body := content
	if c.enc != nil && kind == kindChunk { // a manifest is hashes, which nothing makes shorter
		if small := c.enc.EncodeAll(content, nil); len(small) < len(content) {
			head[6], body = compressZstd, small
		}
	}
	if c.contents == nil {
		return append(head, body...), nil
	}
	head[7] = encryptGCM
	gcm, err := c.cipher(h)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("nonce: %w", err)
	}
	return gcm.Seal(append(head, nonce...), nonce, body, head), nil
}

func (c *codec) cipher(h Hash) (cipher.AEAD, error) {
	key := mac(c.contents, h[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return gcm, nil
}

// open returns the content of an object and its hash, both checked. Any other content
// than what was sealed is ErrCorrupt.
func (c *codec) open(kind byte, object []byte) ([]byte, Hash, error) {
	var h Hash
	bad := func(format string, args ...any) ([]byte, Hash, error) {
		return nil, h, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(object) < headBytes || string(object[:4]) != objectMagic {
		return bad("%d bytes that are no object of a backup", len(object))
	}
	if v := object[4]; v != objectVersion {
		return nil, h, fmt.Errorf("object of version %d, this release reads %d: use a newer one", v, objectVersion)
	}
	head, body := object[:headBytes:headBytes], object[headBytes:]
	if head[5] != kind {
		return bad("object of kind %d, not %d", head[5], kind)
	}
	length := int64(binary.BigEndian.Uint32(head[8:]))
	copy(h[:], head[12:])
	hashed := Hash{}
	switch head[7] {
	case encryptNone:
	case encryptGCM:
		if c.contents == nil {
			return nil, h, errors.New("the backup is encrypted, and this node has no key: set [backup] key_file")
		}
		gcm, err := c.cipher(h)
		if err != nil {
			return nil, h, err
		}
		if len(body) < gcm.NonceSize() {
			return bad("%d bytes are too few", len(object))
		}
		if body, err = gcm.Open(nil, body[:gcm.NonceSize()], body[gcm.NonceSize():], head); err != nil {
			return bad("it was encrypted with another key, or changed since")
		}
	default:
		return bad("unknown encryption %d", head[7])
	}
	switch head[6] {
	case compressNone:
	case compressZstd:
		if length > maxChunk {
			return bad("content of %d bytes", length)
		}
		plain, err := c.dec.DecodeAll(body, make([]byte, 0, min(length, int64(len(body))*256)))
		if err != nil {
			return bad("%v", err)
		}
		body = plain
	default:
		return bad("unknown compression %d", head[6])
	}
	if int64(len(body)) != length {
		return bad("%d bytes instead of %d", len(body), length)
	}
	if head[7] == encryptNone {
		hashed = sha256.Sum256(body)
	} else {
		hashed = mac(c.names, body)
	}
	if !bytes.Equal(hashed[:], h[:]) {
		return bad("its bytes do not have the hash %s", h)
	}
	return body, h, nil
}
