package view

import "github.com/vmthunder/vmthunder/db/model"

// TransferSummary is a row of a list, and the answer to who accepts. Its links are of the older
// collection, whichever was asked.
func (c Context) TransferSummary(t *model.Transfer) Object {
	return Object{"id": t.ID, "volume_id": t.VolumeID, "name": orNil(t.Name), "links": c.Links("os-volume-transfer", t.ID.String())}
}

// Transfer with all that may be told of it.
func (c Context) Transfer(t *model.Transfer) Object {
	o := c.TransferSummary(t)
	o["created_at"] = Time(t.CreatedAt)
	if c.Version >= 55 {
		o["no_snapshots"] = t.NoSnapshots
	}
	if c.Version >= 57 {
		o["source_project_id"], o["destination_project_id"] = t.SourceProjectID, orNil(t.DestinationProjectID)
		o["accepted"] = t.Accepted
	}
	return o
}

// TransferCreated has the key as well: it is shown this once.
func (c Context) TransferCreated(t *model.Transfer, key string) Object {
	o := c.Transfer(t)
	o["auth_key"] = key
	return o
}
