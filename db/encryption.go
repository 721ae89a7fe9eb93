package db

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// A volume without a key can't be made with a type that is encrypted, nor change to it: a
// trigger refuses that (00003_types.sql), with the type held as it is.

const encryptionColumns = "volume_type_id, id, provider, control_location, cipher, key_size, created_at, updated_at"

// TypeEncryption returns how volumes of a type are encrypted; ErrNotFound if they are not.
func (s *Store) TypeEncryption(ctx context.Context, volumeType uuid.UUID) (model.Encryption, error) {
	var es []model.Encryption
	err := s.list(ctx, &es, "SELECT "+encryptionColumns+" FROM volume_type_encryption WHERE volume_type_id = $1", volumeType)
	return one(es, err, "encryption of volume type", volumeType)
}

// CreateEncryption has volumes of a type encrypted from now on: ErrInUse if there are any
// yet, ErrExists if they are encrypted already.
func (s *Store) CreateEncryption(ctx context.Context, e model.Encryption) (model.Encryption, error) {
	if e.ID == uuid.Nil {
		e.ID = uuid.New()
	}
	var out model.Encryption
	err := s.Tx(ctx, func(t *Tx) error {
		if _, err := t.lockUnused(e.VolumeTypeID); err != nil {
			return err
		}
		var es []model.Encryption
		err := t.list(&es, `INSERT INTO volume_type_encryption (volume_type_id, id, provider, control_location, cipher, key_size)
			VALUES ($1, $2, $3, $4, $5, $6) RETURNING `+encryptionColumns,
			e.VolumeTypeID, e.ID, e.Provider, e.ControlLocation, e.Cipher, e.KeySize)
		if errors.Is(err, model.ErrExists) {
			return say(model.ErrExists, "Volume type encryption for type %s already exists.", e.VolumeTypeID)
		}
		out, err = one(es, err, "encryption of volume type", e.VolumeTypeID)
		return err
	})
	return out, err
}

// UpdateEncryption writes the fields of p that are set: ErrInUse if volumes have the type,
// ErrNotFound if it has no encryption.
func (s *Store) UpdateEncryption(ctx context.Context, volumeType uuid.UUID, p model.EncryptionPatch) error {
	return s.Tx(ctx, func(t *Tx) error {
		if _, err := t.lockUnused(volumeType); err != nil {
			return err
		}
		n, err := t.affected(`UPDATE volume_type_encryption SET provider = COALESCE($2, provider),
			control_location = COALESCE($3, control_location), cipher = CASE WHEN $4 THEN $5 ELSE cipher END,
			key_size = CASE WHEN $6 THEN $7::integer ELSE key_size END, updated_at = now() WHERE volume_type_id = $1`,
			volumeType, p.Provider, p.ControlLocation, p.SetCipher, p.Cipher, p.SetKeySize, p.KeySize)
		return neededN(n, err, "encryption of volume type", volumeType)
	})
}

// DeleteEncryption has volumes of a type not encrypted: ErrInUse if there are any,
// ErrNotFound if it has no encryption.
func (s *Store) DeleteEncryption(ctx context.Context, volumeType uuid.UUID) error {
	return s.Tx(ctx, func(t *Tx) error {
		if _, err := t.lockUnused(volumeType); err != nil {
			return err
		}
		n, err := t.affected("DELETE FROM volume_type_encryption WHERE volume_type_id = $1", volumeType)
		return neededN(n, err, "encryption of volume type", volumeType)
	})
}
