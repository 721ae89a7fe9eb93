// Package dm is the driver.DeviceMapper of this program: the kernel's
// device-mapper spoken to by ioctl on /dev/mapper/control. Nothing is executed
// except modprobe, once for each target type whose module is not loaded; there
// is no backend that runs dmsetup.
//
// The package also makes and parses the parameters of the targets that the
// program uses ([LinearTarget], [SnapshotTarget], ...) and the targets' status
// lines ([ThinPoolStatus], [SnapshotStatus], ...).
//
// Device nodes: the kernel and devtmpfs make /dev/dm-N only. Where udev runs, its
// rules make /dev/mapper/NAME and this package waits for them; where it does
// not, and where udev doesn't in time, this package makes the node itself, as
// libdevmapper does.
//
// References: the kernel's include/uapi/linux/dm-ioctl.h and
// Documentation/admin-guide/device-mapper.
package dm
