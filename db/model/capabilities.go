package model

import (
	"slices"
	"strconv"
	"strings"
)

// StorageProtocol: a volume is a local device on its home node, and reached by iSCSI elsewhere.
const StorageProtocol = "iSCSI"

// PoolName is the one pool of a node, the part after # of HOST@BACKEND#POOL.
const PoolName = "vmthunder"

// BackendName is the backend of nodes that name none, where the configuration names none either.
const BackendName = "vmthunder"

// Backend is what all pools have in common to the outside.
type Backend struct {
	Name               string // of the backend of nodes that name none; default [BackendName]
	Version            string
	ReservedPercentage int // of a pool, kept free of new volumes
}

// NameOf is the name of the backend that a node's pool is of: volume_backend_name, which extra specs
// of types are matched with, and the part after @ of HOST@BACKEND#POOL. own is what the node says.
func (b Backend) NameOf(own string) string {
	switch {
	case own != "":
		return own
	case b.Name != "":
		return b.Name
	}
	return BackendName
}

// HostName is a node's backend as a host of Cinder: HOST@BACKEND. own is what the node says.
func (b Backend) HostName(node, own string) string { return node + "@" + b.NameOf(own) }

// PoolName is a node's pool: HOST@BACKEND#POOL.
func (b Backend) PoolName(node, own string) string { return b.HostName(node, own) + "#" + PoolName }

// NodeOf finds the node that a host or pool name, or a plain node name, means: nil if there is none, or
// if its pool is of another backend.
func (b Backend) NodeOf(name string, nodes []Node) *Node {
	name, pool, hasPool := strings.Cut(name, "#")
	host, backend, hasBackend := strings.Cut(name, "@")
	if hasPool && (!hasBackend || pool != PoolName) {
		return nil
	}
	for i := range nodes {
		if n := &nodes[i]; n.Host == host {
			if hasBackend && backend != b.NameOf(n.Backend) {
				return nil
			}
			return n
		}
	}
	return nil
}

// Capabilities are what a pool says of itself, by Cinder's names: booleans, numbers, strings
// or nil.
type Capabilities map[string]any

// Capabilities of a node's pool; capacities in GiB.
func (b Backend) Capabilities(n *Node) Capabilities {
	return Capabilities{
		"pool_name": PoolName, "volume_backend_name": b.NameOf(n.Backend), "vendor_name": "VMThunder",
		"driver_version": b.Version, "storage_protocol": StorageProtocol,
		"total_capacity_gb": gigabytes(n.PoolTotal), "free_capacity_gb": gigabytes(n.PoolFree),
		"reserved_percentage": b.ReservedPercentage, "max_over_subscription_ratio": "20.0",
		"thin_provisioning_support": true, "thick_provisioning_support": false,
		"QoS_support": false, "multiattach": true, "cacheable": true, "consistencygroup_support": false,
		"replication_enabled": false, "group_replication_enabled": false,
		"filter_function": nil, "goodness_function": nil, "location_info": n.Address,
	}
}

// gigabytes with two digits after the point.
func gigabytes(bytes int64) float64 {
	return float64(bytes*100>>30) / 100
}

// Lacks returns the extra spec that a pool does not fulfil, as key=value, "" if it fulfils
// all. Specs with a scope other than "capabilities:" ask nothing of pools. The rules are
// those of Cinder's CapabilitiesFilter (scheduler/filters/capabilities_filter.py).
func (c Capabilities) Lacks(specs StringMap) string {
	var lacks []string
	for key, want := range specs {
		name, scoped := strings.CutPrefix(key, "capabilities:")
		if !scoped && strings.Contains(key, ":") {
			continue
		}
		if value, known := c[name]; !known || !matches(value, want) {
			lacks = append(lacks, key+"="+want)
		}
	}
	if len(lacks) == 0 {
		return ""
	}
	return slices.Min(lacks)
}

// Is tells whether a capability has a value, as a query string has it.
func (c Capabilities) Is(name, value string) bool {
	switch have := c[name].(type) {
	case nil:
		return false
	case string:
		return have == value
	case bool:
		return have == truth(value)
	default:
		a, _ := float(have)
		b, err := strconv.ParseFloat(value, 64)
		return err == nil && a == b
	}
}

// matches tells whether a capability's value is as an extra spec wants it: an operator and
// its operand, or the value itself (scheduler/filters/extra_specs_ops.py).
func matches(value any, want string) bool {
	words := strings.Fields(want)
	if len(words) == 0 {
		return value == any(want)
	}
	op, words := words[0], words[1:]
	text, isText := value.(string)
	switch op {
	case "<or>":
		for i := 0; i < len(words); i += 2 { // every other word is <or> again
			if isText && words[i] == text {
				return true
			}
		}
		return false
	case "<in>", "<is>", "s==", "s!=", "s<", "s<=", "s>", "s>=", "=", "==", "!=", ">=", "<=":
		if len(words) == 0 || value == nil {
			return false
		}
	default:
		return value == any(want)
	}
	than := words[0]
	switch op {
	case "<in>":
		return isText && strings.Contains(text, than)
	case "<is>":
		return truth(value) == truth(than)
	case "=", "==", "!=", ">=", "<=":
		a, ok := float(value)
		b, err := strconv.ParseFloat(than, 64)
		return ok && err == nil && compares(op, a, b)
	}
	return isText && compares(strings.TrimPrefix(op, "s"), text, than)
}

func compares[T float64 | string](op string, a, b T) bool {
	switch op {
	case "==":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b // ">=", and "=" of numbers
}

// truth is what oslo's bool_from_string makes of a value.
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return slices.Contains([]string{"1", "t", "true", "on", "y", "yes"}, strings.ToLower(strings.TrimSpace(v)))
	}
	return false
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case bool:
		return map[bool]float64{true: 1}[v], true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}
