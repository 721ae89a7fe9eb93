package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// setReader runs in a node: PATH DEPTH SOURCE. Its first line of input names extents; it
// prints "ready", waits for a second line, copies SOURCE whole to PATH if there is one,
// reads the extents of PATH in order, DEPTH of them at once, past the page cache, and
// prints the sum of what it has read.
const setReader = `import json, mmap, os, sys, threading, zlib
path, depth, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
extents = json.loads(sys.stdin.readline())
sums = [0] * len(extents)
todo = iter(range(len(extents)))
failed = []
def copy():
    buf = mmap.mmap(-1, 1 << 20)
    src = os.open(source, os.O_RDONLY | os.O_DIRECT)
    dst = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
    while n := os.readv(src, [buf]):
        os.writev(dst, [memoryview(buf)[:n]])
    os.close(dst)
def work():
    try:
        buf = mmap.mmap(-1, 1 << 16)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for i in todo:
            at, size = extents[i]
            view = memoryview(buf)[:size]
            if os.preadv(fd, [view], at) != size:
                raise OSError("short read at %d" % at)
            sums[i] = zlib.crc32(view)
    except Exception as e:
        failed.append(e)
print("ready", flush=True)
sys.stdin.readline()
if source:
    copy()
threads = [threading.Thread(target=work) for _ in range(depth)]
for t in threads: t.start()
for t in threads: t.join()
if failed:
    sys.exit(repr(failed[0]))
print("%08x" % zlib.crc32("".join("%08x" % s for s in sums).encode()), flush=True)
`

// spreadTarget is what one node reads: a device, or a file that source is copied to first.
type spreadTarget struct {
	node         *lab.Node
	path, source string
}

// readSet has all nodes read the set at once and compares what they got. It returns the
// seconds from the word to the last one's end.
func readSet(ctx context.Context, targets []spreadTarget, set []extent, want string) (seconds float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list, err := json.Marshal(set)
	if err != nil {
		return 0, err
	}
	list = append(list, '\n')
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	errs := make([]error, len(targets))
	for i, t := range targets {
		ready.Add(1)
		done.Go(func() {
			once := sync.OnceFunc(ready.Done)
			defer once()
			got, err := t.read(ctx, list, once, begin)
			if err == nil && got != want {
				err = fmt.Errorf("the bytes have the sum %q, wanted %s", got, want)
			}
			if err != nil {
				errs[i] = fmt.Errorf("read %s at %s: %w", t.path, t.node.Name(), err)
				cancel()
			}
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	return time.Since(start).Seconds(), errors.Join(errs...)
}

// read runs the reader; it calls ready when that is, and gives it the word after begin.
func (t spreadTarget) read(ctx context.Context, list []byte, ready func(), begin <-chan struct{}) (string, error) {
	in, feed := io.Pipe()
	out, lines := io.Pipe()
	last := make(chan string, 1)
	go func() { // all writes to feed fail when the program has ended
		if _, err := feed.Write(list); err == nil {
			select {
			case <-begin:
				_, _ = io.WriteString(feed, "go\n")
			case <-ctx.Done():
			}
		}
		_ = feed.Close()
	}()
	go func() {
		var line string
		for s := bufio.NewScanner(out); s.Scan(); {
			if line = s.Text(); line == "ready" {
				ready()
			}
		}
		last <- line
	}()
	var stderr strings.Builder
	code, err := t.node.Stream(ctx, lab.Command{Argv: []string{"python3", "-c", setReader, t.path, strconv.Itoa(spreadDepth), t.source}},
		lab.Streams{Stdin: in, Stdout: lines, Stderr: &stderr})
	err = errors.Join(err, in.Close(), lines.Close()) // closing a pipe never fails
	got := <-last
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d: %s", code, strings.TrimSpace(stderr.String()))
	}
	return got, err
}

// cpuTime is what all processors have done since the boot, in clock ticks.
type cpuTime struct{ busy, all uint64 }

func cpuTimes() cpuTime {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return parseCPU(line)
}

// parseCPU reads "cpu user nice system idle iowait irq softirq steal …" (proc_stat(5));
// what follows is in user and nice already.
func parseCPU(line string) cpuTime {
	var t cpuTime
	for i, s := range strings.Fields(line) {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || i > 8 {
			continue
		}
		t.all += n
		if i != 4 && i != 5 {
			t.busy += n
		}
	}
	return t
}

// busySince is the share of the processors' time since then that was used, 0 to 1.
func (t cpuTime) busySince(then cpuTime) float64 {
	if t.all <= then.all {
		return 0
	}
	return float64(t.busy-then.busy) / float64(t.all-then.all)
}
