package agent_test

import (
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Parts of documents.

func secretOf(child string) string { return (secretMark + "-" + child + "-0123456789")[:16] }

func children(hosts ...string) []model.Child {
	var out []model.Child
	for _, h := range hosts {
		out = append(out, model.Child{Host: h, Initiator: initiatorOf(h), User: "vmthunder-" + h, Secret: secretOf(h)})
	}
	return out
}

func (b *bed) portal(child, parent, image string) model.ParentPortal {
	return model.ParentPortal{
		Host: parent, Address: b.nodes[parent].addr, IQN: driver.ImageIQN(parent, image), User: "vmthunder-" + child, Secret: secretOf(child),
	}
}

func (b *bed) root(kids ...string) model.DesiredImage {
	return model.DesiredImage{
		ID: img, Role: model.RoleRoot, State: model.Present, DeviceBytes: imageBytes, ThinBase: 8,
		Source: &model.ImageSource{DiskFormat: "raw", SizeBytes: imageBytes}, Children: children(kids...),
	}
}

func (b *bed) relay(host, parent string, alternates []string, kids ...string) model.DesiredImage {
	p := b.portal(host, parent, img)
	d := model.DesiredImage{
		ID: img, Role: model.RoleRelay, State: model.Present, DeviceBytes: imageBytes, ThinBase: 8,
		Parent: &p, Children: children(kids...),
	}
	for _, a := range alternates {
		d.Alternates = append(d.Alternates, b.portal(host, a, img))
	}
	return d
}

func volume(id string, thin uint32, exportedTo ...string) model.DesiredVolume {
	return model.DesiredVolume{ID: id, ImageID: img, State: model.Present, Bytes: 4 << 20, ThinID: thin, Hosts: children(exportedTo...)}
}

func blank(id string, thin uint32) model.DesiredVolume {
	return model.DesiredVolume{ID: id, State: model.Present, Bytes: 4 << 20, ThinID: thin}
}

func images(list ...model.DesiredImage) []model.DesiredImage    { return list }
func volumes(list ...model.DesiredVolume) []model.DesiredVolume { return list }

func in(state model.Presence, v model.DesiredVolume) model.DesiredVolume {
	v.State, v.Hosts = state, nil
	return v
}

func gone(i model.DesiredImage) model.DesiredImage {
	i.State, i.Children = model.Absent, nil
	return i
}
