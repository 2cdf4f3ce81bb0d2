package cloudtest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// size is one of the provider's; memory is in MiB, disk in GiB, the price in US dollars.
type size struct {
	slug               string
	memory, cpus, disk int
	transfer, monthly  float64
}

// sizes are some of the provider's, at the prices of 2026.
var sizes = []size{
	{"s-1vcpu-1gb", 1024, 1, 25, 1, 6},
	{"s-1vcpu-2gb", 2048, 1, 50, 2, 12},
	{"s-2vcpu-2gb", 2048, 2, 60, 3, 18},
	{"s-2vcpu-4gb", 4096, 2, 80, 4, 24},
	{"s-4vcpu-8gb", 8192, 4, 160, 5, 48},
	{"s-8vcpu-16gb", 16384, 8, 320, 6, 96},
	{"c-2", 4096, 2, 25, 4, 42},
	{"c-4", 8192, 4, 50, 5, 84},
	{"g-2vcpu-8gb", 8192, 2, 25, 4, 63},
}

// region is one of the provider's.
type region struct{ slug, name string }

var regions = []region{
	{"nyc1", "New York 1"},
	{"nyc3", "New York 3"},
	{"ams3", "Amsterdam 3"},
	{"sfo3", "San Francisco 3"},
	{"sgp1", "Singapore 1"},
	{"lon1", "London 1"},
	{"fra1", "Frankfurt 1"},
	{"tor1", "Toronto 1"},
	{"blr1", "Bangalore 1"},
	{"syd1", "Sydney 1"},
}

func regionSlugs() []string { return each(regions, func(r region) string { return r.slug }) }
func sizeSlugs() []string   { return each(sizes, func(z size) string { return z.slug }) }

func sizeOf(slug string) *size {
	for _, z := range sizes {
		if z.slug == slug {
			return &z
		}
	}
	return nil
}

// regionJSON is a region's, of any slug.
func regionJSON(slug string) object {
	name := slug
	for _, r := range regions {
		if r.slug == slug {
			name = r.name
		}
	}
	return object{
		"name": name, "slug": slug, "available": true, "sizes": sizeSlugs(),
		"features": []string{"backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"},
	}
}

// sizeJSON is a size's, also of a slug that the table lacks: a droplet that was there
// before may have one.
func sizeJSON(slug string) object {
	z := sizeOf(slug)
	if z == nil {
		z = &size{slug: slug, memory: 1024, cpus: 1, disk: 25, transfer: 1, monthly: 6}
	}
	return object{
		"slug": z.slug, "memory": z.memory, "vcpus": z.cpus, "disk": z.disk, "transfer": z.transfer,
		"price_monthly": z.monthly, "price_hourly": z.monthly / 672, "regions": regionSlugs(), "available": true,
		"description": "Basic",
	}
}

func (s *Server) listRegions(x *exchange) {
	page(x, "regions", regions, func(r region) object { return regionJSON(r.slug) })
}

func (s *Server) listSizes(x *exchange) {
	page(x, "sizes", sizes, func(z size) object { return sizeJSON(z.slug) })
}

func (s *Server) getAccount(x *exchange) {
	x.json(http.StatusOK, object{"account": object{
		"droplet_limit": s.conf.DropletLimit, "floating_ip_limit": 3, "email": "admin@example.org", "name": "An Admin",
		"uuid": "9b2f0000-0000-4000-8000-000000000000", "email_verified": true, "status": "active", "status_message": "",
		"team": object{"uuid": "9b2f0000-0000-4000-8000-000000000001", "name": "An Instance"},
	}})
}

// The metrics of load balancers that the description has.
var metrics = map[string]bool{
	"frontend_connections_current": true, "frontend_connections_limit": true, "frontend_cpu_utilization": true,
	"frontend_firewall_dropped_bytes": true, "frontend_firewall_dropped_packets": true, "frontend_http_responses": true,
	"frontend_http_requests_per_second": true, "frontend_network_throughput_http": true, "frontend_network_throughput_udp": true,
	"frontend_network_throughput_tcp": true, "frontend_nlb_tcp_network_throughput": true, "frontend_nlb_udp_network_throughput": true,
	"frontend_tls_connections_current": true, "frontend_tls_connections_limit": true, "frontend_tls_connections_exceeding_rate_limit": true,
	"droplets_http_session_duration_avg": true, "droplets_http_session_duration_50p": true, "droplets_http_session_duration_95p": true,
	"droplets_http_response_time_avg": true, "droplets_http_response_time_50p": true, "droplets_http_response_time_95p": true,
	"droplets_http_response_time_99p": true, "droplets_queue_size": true, "droplets_http_responses": true,
	"droplets_connections": true, "droplets_health_checks": true, "droplets_downtime": true,
}

// getMetric knows the health of droplets, as 1 and 0, and has nothing for the rest.
func (s *Server) getMetric(x *exchange) {
	metric := x.r.PathValue("metric")
	if !metrics[metric] {
		x.notFound()
		return
	}
	for _, k := range []string{"lb_id", "start", "end"} {
		if x.one(k) == "" {
			x.unfit(k + " is missing")
			return
		}
	}
	from, err1 := strconv.ParseInt(x.one("start"), 10, 64)
	to, err2 := strconv.ParseInt(x.one("end"), 10, 64)
	b := s.state.balancer(x.one("lb_id"))
	switch {
	case err1 != nil || err2 != nil || from > to:
		x.unfit("start and end are no seconds since 1970 in that order")
	case b == nil:
		x.notFound()
	case metric != "droplets_health_checks":
		x.matrix(nil)
	default:
		ids, at := map[string]int{}, min(to, s.now().Unix())
		for _, id := range s.balanced(b) {
			if d := s.state.droplet(id); d != nil {
				ids[d.Machine] = id
			}
		}
		x.later = func() { x.health(ids, b.ID, time.Unix(at, 0)) }
	}
}

// health asks the real balancer. The lock is not held.
func (x *exchange) health(ids map[string]int, balancer string, at time.Time) {
	healthy, err := x.s.conf.Balancing.Healthy(x.r.Context())
	if err != nil {
		x.fail(http.StatusInternalServerError, "server_error", "the balancer does not tell: "+err.Error())
		return
	}
	out := []object{}
	for _, machine := range slices.Sorted(maps.Keys(ids)) {
		value := "0"
		if healthy[machine] {
			value = "1"
		}
		out = append(out, object{
			"metric": object{"lb_id": balancer, "host_id": strconv.Itoa(ids[machine])}, "values": [][]any{{at.Unix(), value}},
		})
	}
	x.matrix(out)
}

func (x *exchange) matrix(result []object) {
	x.json(http.StatusOK, object{"status": "success", "data": object{"resultType": "matrix", "result": list(result)}})
}
