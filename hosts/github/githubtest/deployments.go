package githubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Deployment is one deployment of a repository.
type Deployment struct {
	ID                                  int64
	Ref, Task, Environment, Description string
	Created                             time.Time
	// Statuses, the newest first.
	Statuses []DeploymentStatus
}

// DeploymentStatus is one status of a deployment.
type DeploymentStatus struct {
	ID                     int64
	State, Description     string
	LogURL, EnvironmentURL string
	Created                time.Time
}

// Deployments are a repository's, the newest first.
func (s *Server) Deployments(name string) (out []Deployment) {
	s.with(name, func(r *repo) {
		for _, d := range r.deployments {
			one := *d
			one.Statuses = slices.Clone(d.Statuses)
			out = append(out, one)
		}
	})
	return out
}

var deploymentStates = []string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}

// body reads what was sent into v: a property that the description lacks is a fault.
func (s *Server) body(x *exchange, v any) bool {
	var b bytes.Buffer
	_, err := b.ReadFrom(http.MaxBytesReader(nil, x.r.Body, 1<<20))
	if err == nil {
		d := json.NewDecoder(&b)
		d.DisallowUnknownFields()
		err = d.Decode(v)
	}
	if err != nil {
		s.fault("%s %s: %v", x.r.Method, x.r.URL.Path, err)
		x.refuse("Problems parsing JSON")
	}
	return err == nil
}

func (x *exchange) refuse(message string) {
	x.json(http.StatusUnprocessableEntity, map[string]any{
		"message": message, "documentation_url": "https://docs.github.com/rest/deployments/deployments", "errors": []any{},
	})
}

func (s *Server) listDeployments(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	q := x.r.URL.Query()
	out := []any{}
	for _, d := range r.deployments {
		if q.Has("task") && q.Get("task") != d.Task || q.Has("environment") && q.Get("environment") != d.Environment || q.Has("ref") && q.Get("ref") != d.Ref {
			continue
		}
		out = append(out, deploymentJSON(x.base, r, d))
	}
	x.json(http.StatusOK, out[:min(len(out), perPage(x))])
}

// perPage is how many a page holds: these lists have one page each here.
func perPage(x *exchange) int {
	if n, err := strconv.Atoi(x.r.URL.Query().Get("per_page")); err == nil {
		return n
	}
	return 30
}

func (s *Server) createDeployment(x *exchange) {
	r := s.repo(x)
	if r == nil || !mayPush(x) {
		return
	}
	w := struct {
		Ref         string    `json:"ref"`
		Task        *string   `json:"task"`
		AutoMerge   *bool     `json:"auto_merge"`
		Contexts    *[]string `json:"required_contexts"`
		Payload     any       `json:"payload"`
		Environment *string   `json:"environment"`
		Description *string   `json:"description"`
		Transient   *bool     `json:"transient_environment"`
		Production  *bool     `json:"production_environment"`
	}{}
	if !s.body(x, &w) {
		return
	}
	switch {
	case w.Ref == "":
		x.refuse("No ref found for: ")
		return
	case w.AutoMerge == nil || *w.AutoMerge:
		s.fault("a deployment that merges the default branch into what is deployed")
	case w.Contexts == nil:
		s.fault("a deployment that waits for each check of the commit")
	}
	s.lastID++
	d := &Deployment{ID: s.lastID, Ref: w.Ref, Task: "deploy", Environment: "production", Created: s.opts.Now()}
	for from, to := range map[*string]*string{w.Task: &d.Task, w.Environment: &d.Environment, w.Description: &d.Description} {
		if from != nil {
			*to = *from
		}
	}
	r.deployments = append([]*Deployment{d}, r.deployments...)
	x.json(http.StatusCreated, deploymentJSON(x.base, r, d))
}

// deployment is the one that the path names; nil once the refusal is written.
func (s *Server) deployment(x *exchange) (*repo, *Deployment) {
	r := s.repo(x)
	if r == nil {
		return nil, nil
	}
	for _, d := range r.deployments {
		if strconv.FormatInt(d.ID, 10) == x.r.PathValue("id") {
			return r, d
		}
	}
	x.notFound()
	return r, nil
}

func (s *Server) listStatuses(x *exchange) {
	r, d := s.deployment(x)
	if d == nil {
		return
	}
	out := []any{}
	for _, one := range d.Statuses {
		out = append(out, statusJSON(x.base, r, d, one))
	}
	x.json(http.StatusOK, out[:min(len(out), perPage(x))])
}

func (s *Server) createStatus(x *exchange) {
	r, d := s.deployment(x)
	if d == nil || !mayPush(x) {
		return
	}
	w := struct {
		State          string  `json:"state"`
		TargetURL      *string `json:"target_url"`
		LogURL         string  `json:"log_url"`
		Description    string  `json:"description"`
		Environment    *string `json:"environment"`
		EnvironmentURL string  `json:"environment_url"`
		AutoInactive   *bool   `json:"auto_inactive"`
	}{}
	if !s.body(x, &w) {
		return
	}
	switch {
	case !slices.Contains(deploymentStates, w.State):
		x.refuse("Validation Failed")
		return
	case utf8.RuneCountInString(w.Description) > 140:
		x.refuse("description is too long (maximum is 140 characters)")
		return
	}
	s.lastID++
	one := DeploymentStatus{ID: s.lastID, State: w.State, Description: w.Description, LogURL: w.LogURL, EnvironmentURL: w.EnvironmentURL, Created: s.opts.Now()}
	d.Statuses = append([]DeploymentStatus{one}, d.Statuses...)
	x.json(http.StatusCreated, statusJSON(x.base, r, d, one))
}

func deploymentJSON(base string, r *repo, d *Deployment) map[string]any {
	at := fmt.Sprintf("%s/deployments/%d", r.api(base), d.ID)
	return map[string]any{
		"url": at, "id": d.ID, "node_id": node("Deployment", strconv.FormatInt(d.ID, 10)), "sha": Hash(d.Ref), "ref": d.Ref, "task": d.Task, "payload": map[string]any{},
		"original_environment": d.Environment, "environment": d.Environment, "description": text(d.Description), "creator": userJSON(base, "refit"),
		"created_at": date(d.Created), "updated_at": date(d.Created), "statuses_url": at + "/statuses", "repository_url": r.api(base),
		"transient_environment": false, "production_environment": d.Environment == "production", "performed_via_github_app": nil,
	}
}

func statusJSON(base string, r *repo, d *Deployment, s DeploymentStatus) map[string]any {
	at := fmt.Sprintf("%s/deployments/%d", r.api(base), d.ID)
	out := map[string]any{
		"url": fmt.Sprintf("%s/statuses/%d", at, s.ID), "id": s.ID, "node_id": node("DeploymentStatus", strconv.FormatInt(s.ID, 10)), "state": s.State,
		"creator": userJSON(base, "refit"), "description": s.Description, "environment": d.Environment, "target_url": s.LogURL,
		"created_at": date(s.Created), "updated_at": date(s.Created), "deployment_url": at, "repository_url": r.api(base), "performed_via_github_app": nil,
	}
	if s.LogURL != "" {
		out["log_url"] = s.LogURL
	}
	if s.EnvironmentURL != "" {
		out["environment_url"] = s.EnvironmentURL
	}
	return out
}
