#!/bin/busybox sh
# Process 1 of the laboratory's boot image. Its root is a RAM disk with busybox and the
# few modules that reach a disk; the disk's second partition is an ext4 with known files.
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
export PATH=/bin
busybox --install -s /bin
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stop() {
	echo "$1"
	sync
	poweroff -f
	while :; do sleep 3600; done
}
load() {
	for m in $1; do
		[ ! -f "/modules/$m.ko" ] || insmod "/modules/$m.ko" || echo "insmod $m failed"
	done
}
load "$(cat /modules/order)"
disk=
# A virtio disk shows at once; others only after their bus was asked.
for i in 1 2 3 4 5 6 7 8 9 10; do
	for d in vda sda; do
		[ ! -b /dev/${d}2 ] || disk=$d
	done
	[ -z "$disk" ] || break
	[ "$i" != 1 ] || load "$(cat /modules/order-ata)"
	sleep 1
done
[ -n "$disk" ] || stop "BOOTFAILED no disk with a second partition"
mount -t ext4 /dev/${disk}2 /root || stop "BOOTFAILED cannot mount /dev/${disk}2"
cd /root && sha256sum -c -s SHA256SUMS || stop "BOOTFAILED checksums differ: $(sha256sum -c SHA256SUMS 2>&1 | grep -v ': OK' | head -n 3)"
count=0
[ ! -f boot-count ] || count=$(cat boot-count)
count=$((count + 1))
id=$(cat /sys/block/$disk/serial 2>/dev/null)
for a in $(cat /proc/cmdline); do
	case $a in vmt.id=*) id=${a#vmt.id=} ;; esac
done
echo $count >boot-count.new && mv boot-count.new boot-count && echo "$id $count" >>boots && sync || stop "BOOTFAILED cannot write"
echo "BOOTED ${id:-unknown} $count"
# The laboratory's own virtual machines say that one boot is all they want.
[ "$(cat /sys/class/dmi/id/product_sku 2>/dev/null)" != vmthunder-poweroff ] || stop "power off"
while :; do sleep 3600; done
