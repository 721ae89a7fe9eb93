package bench

import "context"

var volumes = Case{Name: "volumes", Title: "100 volumes from one image, first request to last available", Run: runVolumes}

func runVolumes(ctx context.Context, b *Bench) error { return errNotYet }
