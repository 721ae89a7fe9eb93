// Package loop is the driver.Loop of this program: the kernel's loop devices
// (drivers/block/loop.c) spoken to by the ioctls of loop(4) and /sys/block. Nothing is
// executed except modprobe, once, where the module is not loaded.
//
// Devices are never bound with autoclear or partition scanning.
package loop
