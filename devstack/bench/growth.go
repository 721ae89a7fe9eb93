package bench

import "context"

var growth = Case{Name: "growth", Title: "Lists and creates against the number of volumes", Run: runGrowth}

func runGrowth(ctx context.Context, b *Bench) error { return errNotYet }
