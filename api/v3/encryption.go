package v3

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) typeEncryptionRoutes() []route {
	return []route{
		{method: "GET", path: "/types/{id}/encryption", h: a.showTypeEncryption},
		{method: "POST", path: "/types/{id}/encryption", h: a.createTypeEncryption},
		{method: "GET", path: "/types/{id}/encryption/{key}", h: a.showTypeEncryptionKey},
		// What stands for {key} is not looked at: clients send the encryption's id or "provider".
		{method: "PUT", path: "/types/{id}/encryption/{key}", h: a.updateTypeEncryption},
		{method: "DELETE", path: "/types/{id}/encryption/{key}", h: a.deleteTypeEncryption},
	}
}

const noEncryption = "Volume type encryption for type %s does not exist."

// typeEncryption is how volumes of the type in the path are encrypted, {} if they are not.
func (a *API) typeEncryption(c *call) (view.Object, error) {
	t, err := a.volumeType(c, "volume_extension:volume_type_encryption:get")
	if err != nil {
		return nil, err
	}
	e, err := a.Store.TypeEncryption(c.ctx(), t.ID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return view.Object{}, nil
	case err != nil:
		return nil, err
	}
	return c.view().Encryption(&e), nil
}

func (a *API) showTypeEncryption(c *call) error {
	e, err := a.typeEncryption(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, e)
}

func (a *API) showTypeEncryptionKey(c *call) error {
	e, err := a.typeEncryption(c)
	if err != nil {
		return err
	}
	v, ok := e[c.vars["key"]]
	if !ok {
		return fault.NotFound(noEncryption, c.vars["id"])
	}
	return c.json(http.StatusOK, view.Object{c.vars["key"]: v})
}

// encryptionOf reads what a body says of encryption, and what of it is to be answered:
// everything, but the size of the key as a number.
func encryptionOf(c *call, required ...string) (p model.EncryptionPatch, echo view.Object, err error) {
	body, in, err := c.wrapped("encryption")
	if err != nil {
		return p, nil, err
	}
	if p.KeySize, err = keySize(in); err != nil {
		return p, nil, err
	}
	if p.Provider, err = in.Plain("provider", 0, 255); err != nil {
		return p, nil, err
	}
	if in.Given("control_location") {
		if p.ControlLocation, err = in.Enum("control_location", "front-end", "back-end"); err != nil {
			return p, nil, err
		}
		if p.ControlLocation == nil {
			return p, nil, in.Invalid("control_location", "None is not one of ['front-end', 'back-end']")
		}
	}
	if p.Cipher, err = in.String("cipher", 0, 255); err != nil {
		return p, nil, err
	}
	if err := in.Require(required...); err != nil {
		return p, nil, err
	}
	if err := body.Only("encryption"); err != nil {
		return p, nil, err
	}
	p.SetCipher, p.SetKeySize = in.Given("cipher"), in.Given("key_size")
	echo = view.Object{}
	for _, k := range in.Keys() {
		echo[k] = json.RawMessage(in.Raw(k))
	}
	if p.KeySize != nil {
		echo["key_size"] = *p.KeySize
	}
	return p, echo, nil
}

// keySize in bits, as a number or as text; nil for none.
func keySize(in *schema.Object) (*int, error) {
	raw := in.Raw("key_size")
	if !in.Has("key_size") {
		return nil, nil //nolint:nilnil // absent and null are not errors
	}
	text, isText := schema.Str(raw), strings.HasPrefix(strings.TrimSpace(string(raw)), `"`)
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && isText:
		return nil, fault.InvalidInput("key_size must be an integer.")
	case err != nil:
		return nil, in.Invalid("key_size", "%s is not of type 'string', 'integer', 'null'", text)
	case n < 0:
		return nil, in.Invalid("key_size", "%d is less than the minimum of 0", n)
	case n > schema.MaxInt:
		return nil, in.Invalid("key_size", "%d is greater than the maximum of %d", n, schema.MaxInt)
	}
	size := int(n)
	return &size, nil
}

func (a *API) createTypeEncryption(c *call) error {
	p, echo, err := encryptionOf(c, "provider", "control_location")
	if err != nil {
		return err
	}
	t, err := a.volumeType(c, "volume_extension:volume_type_encryption:create")
	if err != nil {
		return err
	}
	e, err := a.Store.CreateEncryption(c.ctx(), model.Encryption{
		VolumeTypeID: t.ID, ID: uuid.New(), Provider: *p.Provider, ControlLocation: *p.ControlLocation, Cipher: p.Cipher, KeySize: p.KeySize,
	})
	switch {
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("Cannot create encryption specs. Volume type in use.")
	case errors.Is(err, model.ErrExists):
		return fault.BadRequest("Volume type encryption for type %s already exists.", t.ID)
	case err != nil:
		return notFound(err, noType, t.ID)
	}
	echo["volume_type_id"], echo["encryption_id"] = t.ID, e.ID
	return c.json(http.StatusOK, view.Object{"encryption": echo})
}

func (a *API) updateTypeEncryption(c *call) error {
	p, echo, err := encryptionOf(c)
	if err != nil {
		return err
	}
	t, err := a.volumeType(c, "volume_extension:volume_type_encryption:update")
	if err != nil {
		return err
	}
	switch err := a.Store.UpdateEncryption(c.ctx(), t.ID, p); {
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("Cannot update encryption specs. Volume type in use.")
	case err != nil:
		return notFound(err, noEncryption, t.ID)
	}
	return c.json(http.StatusOK, view.Object{"encryption": echo})
}

// deleteTypeEncryption knows of no type that is not there: it has no encryption.
func (a *API) deleteTypeEncryption(c *call) error {
	if err := c.allow("volume_extension:volume_type_encryption:delete"); err != nil {
		return err
	}
	id, ok := c.uuid("id")
	if !ok {
		return fault.NotFound(noEncryption, c.vars["id"])
	}
	switch err := a.Store.DeleteEncryption(c.ctx(), id); {
	case errors.Is(err, model.ErrInUse):
		return fault.BadRequest("Cannot delete encryption specs. Volume type in use.")
	case err != nil:
		return notFound(err, noEncryption, id)
	}
	return c.emptyHTML(http.StatusAccepted)
}

// refuseEncrypted: there is no key manager yet, so volumes of a type that is encrypted
// can't be made. The answers are those of Cinder when its key manager fails
// (cinder/volume/volume_utils.py, create_encryption_key).
func (a *API) refuseEncrypted(c *call, t *model.VolumeType) error {
	if !t.Encrypted {
		return nil
	}
	e, err := a.Store.TypeEncryption(c.ctx(), t.ID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case err != nil:
		return err
	case e.Cipher == nil || *e.Cipher == "":
		return fault.BadRequest("Invalid encryption spec")
	}
	f := fault.BadRequest("Key manager error")
	f.Cause = fmt.Errorf("volume type %s is encrypted, and there is no key manager", t.Name)
	return f
}

// volumeEncryptionData is what Nova asks for before it opens an encrypted volume.
func (a *API) volumeEncryptionData(c *call) (view.Object, error) {
	v, err := a.volume(c, "volume_extension:volume_encryption_metadata")
	if err != nil {
		return nil, err
	}
	out := view.Object{"encryption_key_id": v.EncryptionKeyID}
	if v.VolumeTypeID == nil {
		return out, nil
	}
	e, err := a.Store.TypeEncryption(c.ctx(), *v.VolumeTypeID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return out, nil
	case err != nil:
		return nil, err
	}
	out["provider"], out["control_location"], out["cipher"], out["key_size"] = e.Provider, e.ControlLocation, e.Cipher, e.KeySize
	return out, nil
}

func (a *API) volumeEncryption(c *call) error {
	e, err := a.volumeEncryptionData(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, e)
}

// volumeEncryptionKey answers with a bare value, nothing for one that is not set. For a key that does not exist
// Cinder fails.
func (a *API) volumeEncryptionKey(c *call) error {
	e, err := a.volumeEncryptionData(c)
	if err != nil {
		return err
	}
	v, ok := e[c.vars["key"]]
	if !ok {
		return fault.NotFound("The resource could not be found.")
	}
	text := ""
	switch v := v.(type) {
	case string:
		text = v
	case *string:
		if v != nil {
			text = *v
		}
	case *int:
		if v != nil {
			text = strconv.Itoa(*v)
		}
	case *uuid.UUID:
		if v != nil {
			text = v.String()
		}
	}
	if text == "" {
		return c.empty(http.StatusOK)
	}
	return c.text(text)
}
