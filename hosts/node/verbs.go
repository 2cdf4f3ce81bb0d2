package node

// Verbs is the function Verbs for this machine.
func (m Machine) Verbs() []Verb {
	return []Verb{
		// The fence. Raising it is no change that the fence itself could guard.
		{Name: "fence.show", Run: Typed(m.fenceShow)},
		{Name: "fence.raise", Run: Typed(m.fenceRaise)},

		// What the host is.
		{Name: "facts", Run: Typed(m.facts)},
		{Name: "inflight", Run: Typed(m.inflight)},
		{Name: "sync", Run: Typed(m.sync)},
		{Name: "backup.last", Run: Typed(m.lastBackup)},
		{Name: "state.read", Run: Typed(m.readState)},
		{Name: "state.files", Run: Typed(m.stateFiles)},

		// Units and transient units.
		{Name: "units.show", Run: Typed(m.unitsShow)},
		{Name: "units", Changes: true, Run: Typed(m.units)},
		{Name: "journal", Run: Typed(m.journal)},
		{Name: "job.start", Changes: true, Run: Typed(m.jobStart)},
		{Name: "job.status", Run: Typed(m.jobStatus)},
		{Name: "job.log", Run: Typed(m.jobLog)},
		{Name: "job.clear", Changes: true, Run: Typed(m.jobClear)},

		// Which machine this is, and that it may run Mastodon.
		{Name: "permit.show", Run: Typed(m.permitShow)},
		{Name: "permit.write", Changes: true, Run: Typed(m.permitWrite)},
		{Name: "permit.withdraw", Changes: true, Run: Typed(m.permitWithdraw)},

		// What makes a clone a machine of its own.
		{Name: "hostkeys.make", Changes: true, Run: Typed(m.makeHostKeys)},
		{Name: "hostkeys.use", Changes: true, Run: Typed(m.useHostKeys)},
		{Name: "hostname.set", Changes: true, Run: Typed(m.setHostname)},

		// What makes a clone one for a rehearsal, and proves it.
		{Name: "env.rehearse", Changes: true, Run: Typed(m.rehearse)},
		{Name: "egress.probe", Run: Typed(m.egress)},

		// Releases.
		{Name: "manifest.show", Run: Typed(m.manifestShow)},
		{Name: "manifest.sign", Changes: true, Run: Typed(m.signManifest)},
		{Name: "signature.check", Run: Typed(m.checkSignature)},
		{Name: "pack", Stream: m.pack},
		{Name: "place.want", Run: Typed(m.placeWant)},
		{Name: "place.put", Changes: true, Run: Typed(m.placePut)},
		{Name: "place.verify", Run: Typed(m.placeVerify)},
		{Name: "running", Run: Typed(m.running)},
		{Name: "bridge", Changes: true, Run: Typed(m.bridge)},
		{Name: "switch", Changes: true, Run: Typed(m.swap)},
		{Name: "prune", Changes: true, Run: Typed(m.prune)},

		// Small files, and what crashed runs left.
		{Name: "file.get", Run: Typed(m.fileGet)},
		{Name: "file.put", Changes: true, Run: Typed(m.filePut)},
		// Configuration files, whose secrets are put in here.
		{Name: "config.look", Run: Typed(m.configLook)},
		{Name: "config.apply", Changes: true, Run: Typed(m.configApply)},
		{Name: "config.restore", Changes: true, Run: Typed(m.configRestore)},
		{Name: "sweep.show", Run: Typed(m.sweepShow)},
		{Name: "sweep", Changes: true, Run: Typed(m.sweep)},
	}
}
