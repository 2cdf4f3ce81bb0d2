package builds

// SidekiqFirst decides which tier is rolled first, from the job classes that the
// release adds and removes. A job whose class a process does not know raises a
// NameError there and waits in the retry set. So the processes that work jobs
// off must know a class before anything enqueues it, and must know it until
// nothing does any more:
//
//   - classes added, perhaps others removed: Sidekiq first;
//   - classes only removed: web first, so that nothing enqueues them any more
//     when the last old Sidekiq goes;
//   - neither: Sidekiq first, as upstream's own instructions have it.
func SidekiqFirst(added, removed []string) bool {
	return len(added) > 0 || len(removed) == 0
}
