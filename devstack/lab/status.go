package lab

import (
	"context"
	"os"
	"slices"
	"time"
)

// Status is what stands of a laboratory right now.
type Status struct {
	Name      string          `json:"name"`
	Dir       string          `json:"dir"`
	Namespace string          `json:"namespace"`
	Created   time.Time       `json:"created"`
	Owner     int             `json:"owner,omitempty"` // pid
	Services  []ServiceStatus `json:"services"`
	Nodes     []NodeStatus    `json:"nodes"`
	Processes int             `json:"processes"` // inside the namespace
}

// ServiceStatus is one service.
type ServiceStatus struct {
	Name    Service `json:"name"`
	Running bool    `json:"running"`
	Pid     int     `json:"pid,omitempty"`
	Address string  `json:"address"`
	Log     string  `json:"log"`
}

// NodeStatus is one node.
type NodeStatus struct {
	Name     string  `json:"name"`
	Address  string  `json:"address"`
	Running  bool    `json:"running"`
	Answers  bool    `json:"answers"` // its agent, within a second
	Pid      int     `json:"pid,omitempty"`
	Memory   int     `json:"memory_mib"`
	DiskUsed int64   `json:"disk_used"`   // bytes on the host, of all three disks
	CPU      float64 `json:"cpu_seconds"` // of all its processes that still run
	Console  string  `json:"console"`
}

// Status looks at all services and nodes.
func (l *Lab) Status(ctx context.Context) Status {
	s := Status{Name: l.st.Name, Dir: l.dir, Namespace: l.st.Namespace, Created: l.st.Created, Processes: len(l.members())}
	s.Owner, _ = l.Owner()
	ports := map[Service]int{
		Postgres: PortPostgres, Rabbit: PortRabbit, Memcached: PortMemcached, Keystone: PortKeystone, Glance: PortGlance,
		Placement: PortPlacement, Neutron: PortNeutron, Nova: PortNova, Cinder: PortCinder,
	}
	l.mu.Lock()
	services := slices.Clone(l.st.Services)
	l.mu.Unlock()
	for _, name := range services {
		p, ok := l.procOf(string(name))
		x := ServiceStatus{Name: name, Running: ok, Address: hostPort(ports[name]), Log: l.LogPath(string(name))}
		if ok {
			x.Pid = p.Pid
		}
		s.Services = append(s.Services, x)
	}
	for _, n := range l.Nodes() {
		p, ok := l.procOf(n.procName())
		x := NodeStatus{Name: n.Name(), Address: n.IP(), Running: ok, Memory: n.st.Memory, Console: n.ConsolePath(), DiskUsed: n.diskUsed()}
		if ok {
			x.Pid, x.CPU = p.Pid, l.cpuSeconds(p)
			pctx, cancel := context.WithTimeout(ctx, time.Second)
			x.Answers = n.Ping(pctx) == nil
			cancel()
		}
		s.Nodes = append(s.Nodes, x)
	}
	return s
}

// cpuSeconds sums the processor time of a process and its session. A clock tick is
// 1/100 s on every Linux that Go runs on.
func (l *Lab) cpuSeconds(p procID) float64 {
	var ticks uint64
	for _, q := range l.family(p) {
		if st, err := readStat(q.Pid); err == nil {
			ticks += st.cpu
		}
	}
	return float64(ticks) / 100
}

func (n *Node) diskUsed() int64 {
	var sum int64
	for _, letter := range []byte("abc") {
		if st, err := os.Stat(n.DiskPath(letter)); err == nil {
			sum += allocated(st)
		}
	}
	return sum
}
