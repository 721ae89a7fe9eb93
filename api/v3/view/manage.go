package view

import "github.com/vmthunder/vmthunder/db/model"

// Manageable is one row of what could be managed: of /os-volume-manage and the like.
func (c Context) Manageable(m *model.Manageable, detail bool) Object {
	o := Object{"reference": reference(m.Reference), "size": m.SizeGiB, "safe_to_manage": m.Reason == ""}
	if m.Source != "" {
		o["source_reference"] = reference(m.Source)
	}
	if !detail {
		return o
	}
	o["reason_not_safe"], o["cinder_id"], o["extra_info"] = nil, nil, nil
	if m.Reason != "" {
		o["reason_not_safe"] = m.Reason
	}
	if m.ManagedAs != nil {
		o["cinder_id"] = *m.ManagedAs
	}
	return o
}

func reference(name string) Object { return Object{"source-name": name} }
