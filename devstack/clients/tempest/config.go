package tempest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Cloud is what tempest is told of a cloud.
type Cloud struct {
	AuthURL, Region string
	// Username has role admin on Project; tempest makes its own projects and users with it.
	Username, Password, Project string
	// Image and ImageAlt are two images by id, of DiskFormat, that fit into 1 GiB.
	Image, ImageAlt, DiskFormat string
	// Flavor and FlavorAlt by id. Without them the cloud has no compute service.
	Flavor, FlavorAlt string
	// Backend describes the storage as the pools' capabilities do.
	Vendor, Protocol string
	// Backends are names of the storage's backends; two at least for Features.MultiBackend.
	Backends []string
	Features Features
	// Set overrides options, "section.name" to value.
	Set map[string]string
}

// Features of a block storage service that are not everywhere: the options of tempest's
// section volume-feature-enabled.
type Features struct {
	Snapshot, Clone, Backup, Revert                       bool
	ExtendAttached, MultiBackend, Groups, Multiattach     bool
	ManageVolume, ManageSnapshot, ExtendAttachedEncrypted bool
}

// config is tempest.conf: section, name, value.
func (c Cloud) config(dir string) map[string]map[string]string {
	is := strconv.FormatBool
	compute := c.Flavor != ""
	out := map[string]map[string]string{
		"DEFAULT":          {"debug": "true", "log_dir": dir, "log_file": "tempest.log"},
		"oslo_concurrency": {"lock_path": dir + "/lock"},
		"auth": {
			"use_dynamic_credentials": "true", "admin_username": c.Username, "admin_password": c.Password,
			"admin_project_name": c.Project, "admin_domain_name": "Default", "tempest_roles": "member",
			"create_isolated_networks": "false",
		},
		"identity": {"uri_v3": c.AuthURL, "auth_version": "v3", "region": c.Region, "v3_endpoint_type": "publicURL"},
		"service_available": {
			"cinder": "true", "glance": "true", "nova": is(compute), "neutron": "false", "swift": "false", "horizon": "false",
		},
		"compute": {
			"image_ref": c.Image, "image_ref_alt": c.ImageAlt, "flavor_ref": c.Flavor, "flavor_ref_alt": c.FlavorAlt,
			"region": c.Region, "build_interval": "1", "build_timeout": "180", "max_microversion": "2.93",
		},
		"compute-feature-enabled": {
			"console_output": "false", "attach_encrypted_volume": "false", "resize": "false", "snapshot": "false",
			"volume_multiattach": is(c.Features.Multiattach),
		},
		"image":      {"region": c.Region, "build_interval": "1"},
		"placement":  {"region": c.Region},
		"validation": {"run_validation": "false", "connect_method": "fixed"},
		"volume": {
			"catalog_type": "volumev3", "region": c.Region, "min_microversion": "3.0", "max_microversion": "3.70",
			"volume_size": "1", "build_interval": "1", "build_timeout": "180", "disk_format": c.DiskFormat,
			"storage_protocol": c.Protocol, "vendor_name": c.Vendor,
		},
		"volume-feature-enabled": {
			"snapshot": is(c.Features.Snapshot), "clone": is(c.Features.Clone), "backup": is(c.Features.Backup),
			"volume_revert": is(c.Features.Revert), "extend_attached_volume": is(c.Features.ExtendAttached),
			"extend_attached_encrypted_volume": is(c.Features.ExtendAttachedEncrypted), "multi_backend": is(c.Features.MultiBackend),
			"consistency_group": is(c.Features.Groups), "manage_volume": is(c.Features.ManageVolume),
			"manage_snapshot": is(c.Features.ManageSnapshot),
		},
	}
	if len(c.Backends) > 0 {
		out["volume"]["backend_names"] = strings.Join(c.Backends, ",")
	}
	for k, v := range c.Set {
		section, option, _ := strings.Cut(k, ".")
		if out[section] == nil {
			out[section] = map[string]string{}
		}
		out[section][option] = v
	}
	return out
}

// text is the configuration as a file, in order.
func text(config map[string]map[string]string) string {
	var b strings.Builder
	for _, section := range slices.Sorted(maps.Keys(config)) {
		fmt.Fprintf(&b, "[%s]\n", section)
		for _, option := range slices.Sorted(maps.Keys(config[section])) {
			if v := config[section][option]; v != "" {
				fmt.Fprintf(&b, "%s = %s\n", option, strings.ReplaceAll(v, "$", "$$")) // oslo.config would replace
			}
		}
	}
	return b.String()
}
