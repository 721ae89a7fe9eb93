package model

import "strings"

// IQNPrefix begins the name of every target that an agent makes (RFC 3720, section 3.2.6.3.1).
const IQNPrefix = "iqn.2014-05.org.vmthunder:"

// ImageIQN names the target by which host serves an image to its children.
func ImageIQN(host, imageID string) string { return IQNPrefix + NameOf(host) + ":image-" + imageID }

// VolumeIQN names the target by which host serves a volume to other hosts.
func VolumeIQN(host, volumeID string) string { return IQNPrefix + NameOf(host) + ":volume-" + volumeID }

// ChapUser is the CHAP name of a host.
func ChapUser(host string) string { return "vmthunder-" + NameOf(host) }

// ImageChapUser is the CHAP name by which a host logs in to its parent for one image. It
// holds the image's id because tgtd knows one secret per name on the whole node, and the
// secret is another for every image.
func ImageChapUser(host, imageID string) string { return ChapUser(host) + "-" + imageID }

// VolumeChapUser is the CHAP name by which a host logs in to a volume's home; it holds the
// volume's id for the same reason.
func VolumeChapUser(host, volumeID string) string { return ChapUser(host) + "-" + volumeID }

// NameOf maps a host name to the characters that RFC 3722 allows in an iSCSI name: lower
// case letters, digits, dot, dash; all others become a dash.
func NameOf(host string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		}
		return '-'
	}, host)
}
