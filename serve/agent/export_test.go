package agent

// Known returns how many machine ids the hub remembers.
func (h *Hub) Known() int {
	h.mu.Lock()
	defer h.mu.Unlock()

	return len(h.tunnels)
}
