package run

// Waiting is how many runs a backfill of a sync has to give way to.
func (r *Running) Waiting(schema, sync string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.slots[schema+"."+sync]; s != nil {
		return s.waiters
	}
	return 0
}
