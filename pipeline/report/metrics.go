package report

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vmst.io/refit/pipeline"
)

// MetricsOptions are the choices of NewMetrics.
type MetricsOptions struct {
	// Fleet is a label of every metric.
	Fleet string
	// Version of refit.
	Version string
	// Textfile is a file for node_exporter's textfile collector; its name ends in
	// .prom. Empty for none.
	Textfile string
	// Watcher adds the metrics of releases and looks, which a process that only runs
	// upgrades knows nothing of. Its textfile holds those alone: each run writes its own
	// beside it, and node_exporter drops a metric that stands in two files.
	Watcher bool
	// Now; nil for time.Now.
	Now func() time.Time
}

const (
	// textfileEvery is how often the textfile is written at most while a run goes on:
	// node_exporter is asked every fifteen seconds or more seldom.
	textfileEvery = 5 * time.Second
	// textfileBeat is how often it is written where nothing changes: its age tells whether
	// the process lives.
	textfileBeat = time.Minute
)

// runStates are the values of the label state: what a run does, and every way for it
// to end.
var runStates = []string{
	"running", "going-back", string(pipeline.Done), string(pipeline.Undone), string(pipeline.Refused), string(pipeline.Stopped),
	string(pipeline.Interrupted), string(pipeline.Person), string(pipeline.LostLock), string(pipeline.LostJournal),
}

// Metrics are what Prometheus is told: as a file, at /metrics, or both. It observes
// the engine's events; docs/metrics.md names each metric.
type Metrics struct {
	o        MetricsOptions
	runs     *prometheus.Registry
	releases *prometheus.Registry // the watcher's

	state    *prometheus.GaugeVec
	info     *prometheus.GaugeVec
	started  prometheus.Gauge
	ended    prometheus.Gauge
	step     prometheus.Gauge
	steps    prometheus.Gauge
	duration *prometheus.GaugeVec
	failed   prometheus.Counter
	failures *prometheus.CounterVec
	polls    *prometheus.GaugeVec
	errors   *prometheus.CounterVec

	mu     sync.Mutex
	behind map[string]time.Time // by project: when the oldest release that does not run here was published

	changed chan struct{}
	over    chan struct{}
	written chan struct{}
	once    sync.Once
	err     error
}

// NewMetrics registers the metrics, in registries of their own, and begins to write
// the textfile until Close.
func NewMetrics(o MetricsOptions) (*Metrics, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{
		o: o, runs: prometheus.NewRegistry(), releases: prometheus.NewRegistry(), behind: map[string]time.Time{},
		changed: make(chan struct{}, 1), over: make(chan struct{}), written: make(chan struct{}),
	}
	if err := m.register(); err != nil {
		return nil, err
	}
	go m.write()
	return m, nil
}

func (m *Metrics) register() error {
	fleet := prometheus.Labels{"fleet": m.o.Fleet}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: fleet})
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: fleet}, labels)
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: fleet}, labels)
	}
	build := gauges("refit_build_info", "refit's own version; always 1.", "version")
	build.WithLabelValues(m.o.Version).Set(1)
	m.state = gauges("refit_run_state", "1 for what the newest run does or how it ended, 0 for the other states.", "state")
	m.info = gauges("refit_run_info", "The newest run; always 1.", "run", "kind", "from", "to")
	m.started = gauge("refit_run_start_time_seconds", "When this process began its work on the newest run, in seconds since 1970.")
	m.ended = gauge("refit_run_end_time_seconds", "When the newest run ended, in seconds since 1970; 0 while it goes on.")
	m.step = gauge("refit_run_step", "Number of the step at work, from 1; 0 before the first and after the end.")
	m.steps = gauge("refit_run_steps", "How many steps the newest run has.")
	m.duration = gauges("refit_step_duration_seconds", "How long each step of the newest run took.", "step", "outcome")
	m.failed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "refit_gate_failed_requests_total", Help: "Requests of users that were answered with a 5xx while a gate of this process watched.", ConstLabels: fleet,
	})
	m.failures = counters("refit_step_failures_total", "Steps that failed in this process.", "step")
	err := registerAll(m.runs, build, m.state, m.info, m.started, m.ended, m.step, m.steps, m.duration, m.failed, m.failures)
	if err != nil || !m.o.Watcher {
		return err
	}
	m.polls = gauges("refit_last_poll_timestamp_seconds", "When a source of releases last answered, in seconds since 1970.", "source")
	m.errors = counters("refit_poll_failures_total", "Looks at a source of releases that failed.", "source")
	return registerAll(m.releases, m.polls, m.errors, behindCollector{m, prometheus.NewDesc(
		"refit_behind_seconds", "For how long a newer release of what is followed has been out and does not run here; 0 if none has.", []string{"project"}, fleet,
	)})
}

func registerAll(r *prometheus.Registry, list ...prometheus.Collector) error {
	for _, c := range list {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// behindCollector counts the seconds when it is asked, not when the watcher looks.
type behindCollector struct {
	m    *Metrics
	desc *prometheus.Desc
}

// Describe names the metric.
func (b behindCollector) Describe(ch chan<- *prometheus.Desc) { ch <- b.desc }

// Collect counts.
func (b behindCollector) Collect(ch chan<- prometheus.Metric) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	for project, since := range b.m.behind {
		seconds := 0.0
		if !since.IsZero() {
			seconds = max(b.m.o.Now().Sub(since).Seconds(), 0)
		}
		ch <- prometheus.MustNewConstMetric(b.desc, prometheus.GaugeValue, seconds, project)
	}
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.runs, m.releases}, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Behind says since when a release of a project that is followed has been out and
// does not run here: the oldest such release's published time; zero if the fleet runs
// the newest.
func (m *Metrics) Behind(project string, since time.Time) {
	m.mu.Lock()
	m.behind[project] = since
	m.mu.Unlock()
	m.touch()
}

// Polled says that a source of releases was asked, and whether it answered.
func (m *Metrics) Polled(source string, err error) {
	if m.polls == nil {
		return
	}
	if err != nil {
		m.errors.WithLabelValues(source).Inc()
	} else {
		m.errors.WithLabelValues(source).Add(0)
		m.polls.WithLabelValues(source).Set(float64(m.o.Now().Unix()))
	}
	m.touch()
}

// Begin names the run that the events to come are of.
func (m *Metrics) Begin(r Run) {
	m.info.Reset()
	m.info.WithLabelValues(r.ID, r.Kind, r.From, r.To).Set(1)
	m.duration.Reset()
	m.steps.Set(float64(len(r.Steps)))
	m.step.Set(0)
	m.ended.Set(0)
	for _, s := range r.Steps {
		if s.State == pipeline.Finish && s.Seconds > 0 {
			m.duration.WithLabelValues(s.Name, "done").Set(s.Seconds)
		}
	}
}

// Observe takes an event.
func (m *Metrics) Observe(e pipeline.Event) {
	if e.Index > 0 {
		m.step.Set(float64(e.Index))
	}
	switch e.Kind {
	case pipeline.RunStarted:
		m.is("running")
		m.started.Set(float64(e.Time.Unix()))
	case pipeline.StepStarted: // its number is news
	case pipeline.StepUndoing:
		m.is("going-back")
	case pipeline.StepDone:
		m.duration.WithLabelValues(e.Step, "done").Set(e.Elapsed.Seconds())
	case pipeline.StepUndone:
		m.duration.WithLabelValues(e.Step, "taken-back").Set(e.Elapsed.Seconds())
	case pipeline.StepFailed, pipeline.UndoFailed:
		m.duration.WithLabelValues(e.Step, "failed").Set(e.Elapsed.Seconds())
		m.failures.WithLabelValues(e.Step).Inc()
	case pipeline.RequestsFailed:
		m.failed.Add(float64(e.Failed))
	case pipeline.RunEnded:
		m.is(e.Text)
		m.ended.Set(float64(e.Time.Unix()))
		m.step.Set(0)
	default:
		return
	}
	m.touch()
}

// is sets the run's state.
func (m *Metrics) is(state string) {
	if !slices.Contains(runStates, state) {
		state = string(pipeline.Person) // as an exit code: what is not known, a person looks at
	}
	for _, s := range runStates {
		v := 0.0
		if s == state {
			v = 1
		}
		m.state.WithLabelValues(s).Set(v)
	}
}

// touch has the textfile written soon.
func (m *Metrics) touch() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// write writes the textfile after changes, not too often, from the first of them on at
// every beat, and once more at the end. Where nothing ever changed, as in a run that
// somebody else's lease kept from beginning, what stands there stays.
func (m *Metrics) write() {
	defer close(m.written)
	beat := time.NewTicker(textfileBeat)
	defer beat.Stop()
	var alive <-chan time.Time
	for m.o.Textfile != "" {
		select {
		case <-m.over:
			if alive != nil || len(m.changed) > 0 {
				m.err = m.file()
			}
			return
		case <-m.changed:
			alive = beat.C
		case <-alive:
		}
		m.err = m.file()
		pause := time.NewTimer(textfileEvery)
		select {
		case <-pause.C:
		case <-m.over:
		}
		pause.Stop()
	}
}

// file replaces the textfile as a whole: node_exporter never reads half of one.
func (m *Metrics) file() error {
	what := m.runs
	if m.o.Watcher {
		what = m.releases
	}
	return prometheus.WriteToTextfile(m.o.Textfile, what)
}

// Close writes the textfile once more, waits for that at most so long, and says what
// could not be written.
func (m *Metrics) Close(limit time.Duration) []string {
	m.once.Do(func() { close(m.over) })
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-m.written:
	case <-t.C:
		return []string{"the metrics in " + m.o.Textfile + " may be old: its disk does not answer"}
	}
	if m.err != nil {
		return []string{"the metrics in " + m.o.Textfile + " are old: " + m.err.Error()}
	}
	return nil
}
