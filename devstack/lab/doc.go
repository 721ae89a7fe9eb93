// Package lab is the project's laboratory: a small cloud of real Linux kernels and real
// servers on one machine, for tests that must show bytes, rows and kernel state.
//
// A laboratory is one network namespace with one bridge, 10.77.0.0/24. Nodes are
// user-mode-linux kernels with a tap device each; PostgreSQL, RabbitMQ, memcached,
// Keystone and Glance run as ordinary processes inside the namespace, on fixed ports,
// so any number of laboratories stand side by side. When asked for, Debian's real Cinder
// stands beside the project's own API, to compare with, and Nova, whose virtual
// machines are fakes while their volumes are connected on the nodes; StartCompute makes
// a node a host of Nova's with libvirt and QEMU. It needs root, /dev/net/tun and the
// Debian packages listed in devstack/packages.sh; no KVM, no kernel modules, no systemd,
// and it changes nothing on the host outside its state directory, its namespace and a
// directory for the nodes' memory in /dev/shm.
//
// Tests call Main from TestMain, which makes one laboratory for the test process, runs
// the tests inside its namespace and takes it down whatever happens. The command
// vmthunder-lab does the same by hand.
//
// What a node is: the host's root file system, read-only, below a writable layer in the
// node's memory, so every program of the host is there under its own path and nothing
// of the host can be changed; three disks (/dev/ubda pool, /dev/ubdb cache, /dev/ubdc
// ext4 on /var/lib/vmthunder) whose files are all that survives Kill. The user-mode
// kernel is described in the kernel's Documentation/virt/uml.
package lab
