package agent

// Remembered is of how many images and volumes the agent remembers that their data is deleted, and
// of how many that they are copied.
func (a *Agent) Remembered() (gone, copied int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.gone), len(a.copied)
}
