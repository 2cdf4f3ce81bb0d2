package cloud

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/digitalocean/godo"
	"github.com/digitalocean/godo/metrics"
)

// healthWindow is how far back a balancer's checks are looked for: its metrics come some
// minutes late, and what is older says nothing of now.
const healthWindow = 10 * time.Minute

// Checked is what a balancer's checks said of a droplet, and when.
type Checked struct {
	Well bool
	At   time.Time
}

// BalancerHealth is what a balancer's checks last said of each droplet behind it, by the
// droplet's ID; one that lacks is not known. The balancer itself has no such field: it is
// read from its metrics and needs the scope monitoring:read.
func (c *Client) BalancerHealth(ctx context.Context, b Balancer) (map[int]Checked, error) {
	d := deed{what: "read the checks of the balancer " + b.Name, scope: "monitoring:read"}
	now := time.Now()
	req := &godo.LoadBalancerMetricsRequest{LoadBalancerID: b.ID, Start: now.Add(-healthWindow), End: now}
	got, err := fetch(ctx, c.begin(), d, func(ctx context.Context) (*godo.MetricsResponse, *godo.Response, error) {
		got, resp, err := c.api.Monitoring.GetLoadBalancerDropletsHealthChecks(ctx, req)
		if err == nil && got.Status != "success" {
			err = fmt.Errorf("%w: the status is %q", errHollow, got.Status)
		}
		return got, resp, err
	})
	if err != nil {
		return nil, err
	}
	return healthOf(b, got.Data.Result), nil
}

// healthOf reads the series. The official description names neither their labels nor
// their values, so a series is a droplet's when one of its labels has the ID of a droplet
// behind the balancer, and only 0 and 1 are believed. Where several series are of one
// droplet (one for each rule of the balancer) all must be 1.
func healthOf(b Balancer, series []metrics.SampleStream) map[int]Checked {
	out := map[int]Checked{}
	for _, s := range series {
		id, ok := ofDroplet(b, s.Metric)
		if !ok || len(s.Values) == 0 {
			continue
		}
		last := slices.MaxFunc(s.Values, func(a, b metrics.SamplePair) int { return a.Timestamp.Time().Compare(b.Timestamp.Time()) })
		value := float64(last.Value)
		if math.IsNaN(value) || value != 0 && value != 1 {
			continue
		}
		said := Checked{Well: value == 1, At: last.Timestamp.Time()}
		if before, known := out[id]; known && (!before.Well || said.Well) {
			// One that fails says when; of those that say the same, the newest.
			if before.Well != said.Well || before.At.After(said.At) {
				said = before
			}
		}
		out[id] = said
	}
	return out
}

func ofDroplet(b Balancer, labels metrics.Metric) (int, bool) {
	for label, value := range labels {
		if label == "lb_id" || label == metrics.MetricNameLabel {
			continue
		}
		if id, err := strconv.Atoi(string(value)); err == nil && slices.Contains(b.Droplets, id) {
			return id, true
		}
	}
	return 0, false
}
