package tree_test

import (
	"fmt"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func racked(n int) []tree.Host {
	hosts := names("h", n)
	for i := range hosts {
		hosts[i].Rack, hosts[i].AvailabilityZone = fmt.Sprint("r", i%250), fmt.Sprint("z", i%3)
	}
	return hosts
}

// big is a tree of n+1 members that joined in one burst.
func big(b *testing.B, degree, n int) tree.Observed {
	o := grown(b, degree, "root")
	hosts := racked(n)
	p, err := tree.Join(o, hosts)
	if err != nil {
		b.Fatal(err)
	}
	for _, h := range hosts {
		o.Nodes[h.Name] = model.Node{Alive: true, Rack: h.Rack, AvailabilityZone: h.AvailabilityZone}
	}
	o.Members = tree.Apply(o.Members, p)
	return o
}

func BenchmarkBurst10000(b *testing.B) {
	for _, degree := range []int{1, 2, 10} {
		b.Run(fmt.Sprint("degree", degree), func(b *testing.B) {
			o, hosts := grown(b, degree, "root"), racked(10000)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tree.Join(o, hosts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJoinFrontier64(b *testing.B) {
	o := frontier(big(b, 10, 10000), 64)
	host := []tree.Host{{Name: "new", Rack: "r7", AvailabilityZone: "z1"}}
	for b.Loop() {
		if _, err := tree.Join(o, host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLose1Of10000(b *testing.B) {
	o := big(b, 10, 10000)
	kill(o, "h00003")
	for b.Loop() {
		tree.Lose(o, []string{"h00003"})
	}
}

func BenchmarkLoseHalfOf10000(b *testing.B) {
	for _, degree := range []int{1, 2, 10} {
		b.Run(fmt.Sprint("degree", degree), func(b *testing.B) {
			o := big(b, degree, 10000)
			var dead []string
			for i := 0; i < 10000; i += 2 {
				dead = append(dead, fmt.Sprintf("h%05d", i))
			}
			kill(o, dead...)
			for b.Loop() {
				tree.Lose(o, dead)
			}
		})
	}
}
