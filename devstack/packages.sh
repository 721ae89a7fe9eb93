#!/bin/sh
# packages.sh - the Debian 12 packages that building, testing and the laboratory need.
#
#   packages.sh [-n] [GROUP...]      install what is missing (as root); -n only lists it
#   packages.sh -g [GO_MOD]          print a line for eval that puts a new enough Go on PATH
#   packages.sh -l                   list groups and packages
#
# Groups: lab (user-mode-linux and its tools), postgres, rabbit, openstack (Keystone,
# Glance, the openstack command), image (the boot image and QEMU), build (make, and Go
# when there is none that will do). Without a group: all of these. And, only when named:
# nova (Nova and Placement), libvirt (for Nova's libvirt driver in nodes), clients (for
# make test-clients: tempest, Horizon, Chromium).
#
# Nothing is removed, nothing is upgraded but what the packages themselves depend on, no
# service is started, and a second run asks dpkg and is done. VMT_CACHE (default /var/cache/vmthunder-lab) keeps the Go
# toolchain, which comes as a Go module, from wherever GOPROXY says.
set -eu

CACHE=${VMT_CACHE:-/var/cache/vmthunder-lab}
HERE=$(cd "$(dirname "$0")" && pwd)
GO_FETCH=${VMT_GO:-1.26.8}
GROUPS_DEFAULT='lab postgres rabbit openstack image build'
GROUPS_ALL="$GROUPS_DEFAULT peer"
GROUPS_MORE='nova libvirt clients'

packages() {
	case $1 in
	lab) echo user-mode-linux iproute2 kmod e2fsprogs open-iscsi tgt dmsetup bcache-tools thin-provisioning-tools fio ca-certificates busybox-static ;;
	postgres) echo postgresql-15 ;;
	rabbit) echo rabbitmq-server ;;
	openstack) echo postgresql-15 memcached uwsgi-core uwsgi-plugin-python3 python3-psycopg2 python3-pymemcache \
		python3-memcache python3-keystone glance-common python3-openstackclient python3-pip qemu-utils ;;
	image) echo linux-image-amd64 busybox-static syslinux syslinux-common mtools dosfstools e2fsprogs qemu-utils qemu-system-x86 ;;
	peer) echo cinder-common dmidecode qemu-utils ;; # os-brick runs dmidecode
	build) echo make git ca-certificates gcc libc6-dev ;;
	nova) echo nova-common python3-placement ;;
	# Not libvirt-daemon-system: that is units, users and polkit, which nodes do without.
	libvirt) echo libvirt-daemon libvirt-clients python3-libvirt qemu-system-x86 qemu-utils dmidecode open-iscsi ;;
	clients) echo tempest cinder-tempest-plugin openstack-dashboard chromium chromium-driver ;;
	*) return 1 ;;
	esac
}

say() { echo "packages: $*" >&2; }
die() { say "$*"; exit 1; }

installed() { # package
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# version_ge A B: A is not older than B.
version_ge() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# wanted_go GO_MOD: the toolchain line if there is one, else the go line.
wanted_go() { awk '$1=="toolchain"{sub(/^go/,"",$2); t=$2} $1=="go"{g=$2} END{print t != "" ? t : g}' "$1"; }

go_version() { # program
	GOTOOLCHAIN=local "$1" version 2>/dev/null | awk '{sub(/^go/,"",$3); print $3}'
}

# find_go GO_MOD: a go that will do, on PATH or in the cache.
find_go() {
	want=$(wanted_go "$1")
	for g in "$(command -v go || true)" "$CACHE"/go/golang.org/toolchain@v*/bin/go; do
		if [ -x "$g" ] && v=$(go_version "$g") && [ -n "$v" ] && version_ge "$v" "$want"; then
			echo "$g"
			return 0
		fi
	done
	return 1
}

# get_go GO_MOD: any older go downloads the newer one, which is a Go module.
get_go() {
	want=$(wanted_go "$1")
	case $want in *.*.*) ;; *) want=$want.0 ;; esac
	# go.mod names the oldest that will do; fetch one with its bugs mended.
	if version_ge "$GO_FETCH" "$want"; then want=$GO_FETCH; fi
	old=$(command -v go || echo /usr/lib/go-1.19/bin/go)
	[ -x "$old" ] || die "no go command to fetch the newer one with"
	say "fetching Go $want"
	mkdir -p "$CACHE/go"
	# Away from any go.mod, whose go line an old go cannot read. GOMODCACHE alone keeps
	# the module where it is looked for; the checksum database is the module proxy's.
	(cd "$CACHE/go" && env -u GOFLAGS HOME="${HOME:-/root}" GOPATH="$CACHE/go/path" GOMODCACHE="$CACHE/go" GOCACHE="$CACHE/go/build" GO111MODULE=on GOFLAGS=-modcacherw \
		"$old" mod download "golang.org/toolchain@v0.0.1-go$want.linux-amd64") || die "cannot fetch Go $want"
	t=$CACHE/go/golang.org/toolchain@v0.0.1-go$want.linux-amd64
	# Modules carry no modes.
	chmod -R u+w "$t"
	chmod +x "$t"/bin/* "$t"/pkg/tool/*/*
	v=$(go_version "$t/bin/go")
	[ "$v" = "$want" ] || die "the fetched Go says that it is '$v', not $want"
	say "Go $v is in $t"
}

go_line() {
	g=$(find_go "$1") || die "no Go for $1; run $0 build"
	if [ "$g" = "$(command -v go || true)" ]; then
		echo ":"
	else
		echo "PATH='$(dirname "$g")':\$PATH; export PATH"
	fi
}

dry=
case ${1:-} in
-l)
	for g in $GROUPS_ALL $GROUPS_MORE; do echo "$g: $(packages "$g")"; done
	exit 0
	;;
-g)
	go_line "${2:-$HERE/../go.mod}"
	exit 0
	;;
-n)
	dry=1
	shift
	;;
-*)
	sed -n '2,/^set -/p' "$0" | sed '$d;s/^# \{0,1\}//' >&2
	exit 2
	;;
esac
[ $# -gt 0 ] || set -- $GROUPS_DEFAULT

missing= need_go=
for g in "$@"; do
	list=$(packages "$g") || die "no group $g; the groups are $GROUPS_ALL $GROUPS_MORE"
	for p in $list; do
		case " $missing " in *" $p "*) continue ;; esac
		installed "$p" || missing="$missing $p"
	done
	if [ "$g" = build ] && ! find_go "$HERE/../go.mod" >/dev/null; then
		need_go=1
		command -v go >/dev/null || [ -x /usr/lib/go-1.19/bin/go ] || missing="$missing golang-go"
	fi
done
missing=${missing# }
if [ -n "$dry" ]; then
	[ -z "$missing" ] || printf '%s\n' $missing
	[ -z "$need_go" ] || echo "go $(wanted_go "$HERE/../go.mod")"
	exit 0
fi
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] || die "run as root to install: $missing"
	say "installing: $missing"
	start=$(date +%s)
	apt() {
		env -u PYTHONPATH -u PYTHONHOME LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef \
			-o Dpkg::Options::=--force-confold -o APT::Install-Recommends=false "$@"
	}
	log=$(mktemp /tmp/vmthunder-packages.XXXXXX)
	# The lists are fetched when they do not know a package, or name one that the mirror no longer has.
	if ! apt -s install $missing >"$log" 2>&1; then
		say "fetching package lists"
		apt update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
		apt -s install $missing >"$log" 2>&1 || { cat "$log" >&2; die "apt cannot install $missing"; }
	fi
	if grep -E '^Remv ' "$log" >&2; then
		die "that would remove the above; nothing was done"
	fi
	policy=
	if [ ! -e /usr/sbin/policy-rc.d ]; then # 101: no maintainer script starts a service
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		policy=1
	fi
	trap '[ -z "$policy" ] || rm -f /usr/sbin/policy-rc.d' EXIT
	trap 'exit 130' INT TERM
	if command -v debconf-set-selections >/dev/null; then
		debconf-set-selections <<-'EOD'
			dbconfig-common dbconfig-common/dbconfig-install boolean false
			glance-common glance/configure_db boolean false
			glance-common glance/configure_ksat boolean false
			cinder-common cinder/configure_db boolean false
			cinder-common cinder/configure_ksat boolean false
			nova-common nova/configure_db boolean false
			nova-common nova/configure_ksat boolean false
		EOD
	fi
	# No cluster of Debian's own: the laboratory makes private ones.
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
	fi
	say "downloading"
	if ! apt -y --download-only install $missing >>"$log" 2>&1; then
		say "fetching package lists, and downloading again"
		apt update >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "apt-get update failed, log $log"; }
		apt -y --download-only install $missing >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "download failed, log $log"; }
	fi
	say "unpacking"
	apt -y install $missing >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "install failed, log $log"; }
	for p in $missing; do
		installed "$p" || die "$p is still not installed, log $log"
	done
	rm -f "$log"
	say "installed in $(($(date +%s) - start)) s"
fi
[ -z "$need_go" ] || get_go "$HERE/../go.mod"
