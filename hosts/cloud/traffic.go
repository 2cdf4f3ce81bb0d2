package cloud

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/digitalocean/godo"
	"github.com/digitalocean/godo/metrics"
)

// Traffic is what went through a balancer in a span of time, as the provider counts it: it
// samples rates, and some minutes late, so that these are estimates.
type Traffic struct {
	// Requests came from users, and 5xx answers (Errors) went to them, the balancer's own
	// among them.
	Requests, Errors float64
	// Samples is how many samples of Requests there were; with none nothing is known.
	Samples int
	// Newest is the time of the last of them.
	Newest time.Time
}

// BalancerTraffic tells how many requests a balancer (an ID or a name) had between two
// times, and how many 5xx answers. It needs the scopes load_balancer:read and
// monitoring:read.
func (c *Client) BalancerTraffic(ctx context.Context, balancer string, from, to time.Time) (Traffic, error) {
	if !to.After(from) {
		return Traffic{}, fmt.Errorf("no time lies between %s and %s", clock(from), clock(to))
	}
	if !identifier.MatchString(balancer) {
		b, err := c.Balancer(ctx, balancer)
		if err != nil {
			return Traffic{}, err
		}
		balancer = b.ID
	}
	req := &godo.LoadBalancerMetricsRequest{LoadBalancerID: balancer, Start: from, End: to}
	read := func(what string, ask func(context.Context, *godo.LoadBalancerMetricsRequest) (*godo.MetricsResponse, *godo.Response, error)) ([]metrics.SampleStream, error) {
		d := deed{what: fmt.Sprintf("read the %s of the balancer %s", what, balancer), scope: "monitoring:read"}
		got, err := fetch(ctx, c.begin(), d, func(ctx context.Context) (*godo.MetricsResponse, *godo.Response, error) {
			got, resp, err := ask(ctx, req)
			if err == nil && got.Status != "success" {
				err = fmt.Errorf("%w: the status is %q", errHollow, got.Status)
			}
			return got, resp, err
		})
		return got.Data.Result, err
	}
	requests, err := read("requests", c.api.Monitoring.GetLoadBalancerFrontendHttpRequestsPerSecond)
	if err != nil {
		return Traffic{}, err
	}
	answers, err := read("answers", c.api.Monitoring.GetLoadBalancerFrontendHttpResponses)
	if err != nil {
		return Traffic{}, err
	}
	var t Traffic
	for _, s := range requests {
		t.Requests += count(s)
		t.Samples += len(s.Values)
		for _, v := range s.Values {
			if at := v.Timestamp.Time(); at.After(t.Newest) {
				t.Newest = at
			}
		}
	}
	for _, s := range answers {
		if failed(s.Metric) {
			t.Errors += count(s)
		}
	}
	return t, nil
}

// failed tells whether a series is of 5xx answers. The description does not name the label
// that says it, so all but the name and the balancer's ID are looked at.
func failed(m metrics.Metric) bool {
	for label, value := range m {
		if label == metrics.MetricNameLabel || label == "lb_id" {
			continue
		}
		if len(value) == 3 && value[0] == '5' && (value[1:] == "xx" || value[1:] == "XX" || (digit(value[1]) && digit(value[2]))) {
			return true
		}
	}
	return false
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

// count adds up a rate per second. Each sample stands until the next one, the last for as
// long as the one before it.
func count(s metrics.SampleStream) float64 {
	sum, step := 0.0, 0.0
	for i, v := range s.Values {
		if i+1 < len(s.Values) {
			step = s.Values[i+1].Timestamp.Time().Sub(v.Timestamp.Time()).Seconds()
		}
		if rate := float64(v.Value); !math.IsNaN(rate) && !math.IsInf(rate, 0) {
			sum += rate * step
		}
	}
	return sum
}
