package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
)

// DeploymentState is how a deployment stands.
type DeploymentState string

// The states that refit tells, as GitHub names them.
const (
	DeploymentQueued     DeploymentState = "queued"
	DeploymentInProgress DeploymentState = "in_progress"
	DeploymentPending    DeploymentState = "pending"
	DeploymentSuccess    DeploymentState = "success"
	DeploymentFailure    DeploymentState = "failure"
	DeploymentError      DeploymentState = "error"
	DeploymentInactive   DeploymentState = "inactive"
)

// maxDescription is how long GitHub lets a description be, in characters.
const maxDescription = 140

// Deployment is what is deployed where.
type Deployment struct {
	// Ref is a branch, tag or commit of the repository.
	Ref string
	// Task names this deployment among all of its environment: refit's is named by the run,
	// so that one whose answer was lost is found again.
	Task        string
	Environment string
	// Description is cut to 140 characters.
	Description string
}

// DeploymentStatus is one status of a deployment.
type DeploymentStatus struct {
	State       DeploymentState `json:"state"`
	Description string          `json:"description"`
	// LogURL leads to what was printed, EnvironmentURL to what was deployed; empty for none.
	LogURL         string `json:"log_url,omitempty"`
	EnvironmentURL string `json:"environment_url,omitempty"`
}

// FindDeployment is the number of the newest deployment of a task, 0 if there is none.
func (c *Client) FindDeployment(ctx context.Context, repo Repo, environment, task string) (int64, error) {
	q := url.Values{"environment": {environment}, "task": {task}, "per_page": {"1"}}
	var list []struct {
		ID   int64  `json:"id"`
		Task string `json:"task"`
	}
	what := "the deployments of " + repo.String()
	a, err := c.begin().get(ctx, question{what: what, path: deploymentsPath(repo) + "?" + q.Encode()})
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return 0, c.strange(question{what: what}, "the answer is no list of deployments")
	}
	for _, d := range list {
		if d.Task == task && d.ID > 0 {
			return d.ID, nil
		}
	}
	return 0, nil
}

// CreateDeployment makes a deployment and gives its number. It is sent once: after an error
// look with FindDeployment whether it was made. Nothing is merged, and no check of the
// commit's is waited for.
func (c *Client) CreateDeployment(ctx context.Context, repo Repo, d Deployment) (int64, error) {
	body := map[string]any{
		"ref": d.Ref, "task": d.Task, "environment": d.Environment, "description": shorten(d.Description), "auto_merge": false, "required_contexts": []string{},
	}
	var made struct {
		ID int64 `json:"id"`
	}
	what := "a deployment of " + repo.String()
	if err := c.post(ctx, question{what: what, path: deploymentsPath(repo), send: body}, &made); err != nil {
		return 0, err
	}
	if made.ID <= 0 {
		return 0, c.strange(question{what: what}, "the deployment has no id")
	}
	return made.ID, nil
}

// DeploymentStatus is the newest status of a deployment; the zero value if it has none.
func (c *Client) DeploymentStatus(ctx context.Context, repo Repo, id int64) (DeploymentStatus, error) {
	what := fmt.Sprintf("the statuses of deployment %d of %s", id, repo)
	a, err := c.begin().get(ctx, question{what: what, path: statusesPath(repo, id) + "?per_page=1"})
	if err != nil {
		return DeploymentStatus{}, err
	}
	var list []DeploymentStatus
	if err := json.Unmarshal(a.body, &list); err != nil {
		return DeploymentStatus{}, c.strange(question{what: what}, "the answer is no list of statuses")
	}
	if len(list) == 0 {
		return DeploymentStatus{}, nil
	}
	return list[0], nil
}

// SetDeploymentStatus adds a status. It is sent once: after an error look with
// DeploymentStatus whether it was taken.
func (c *Client) SetDeploymentStatus(ctx context.Context, repo Repo, id int64, s DeploymentStatus) error {
	s.Description = shorten(s.Description)
	return c.post(ctx, question{what: fmt.Sprintf("a status of deployment %d of %s", id, repo), path: statusesPath(repo, id), send: s}, nil)
}

// post sends something once. While a limit lasts nothing is sent.
func (c *Client) post(ctx context.Context, q question, into any) error {
	if held := c.heldBack(q); held != nil {
		return held
	}
	a, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	c.accepted()
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return c.strange(q, "the answer cannot be read")
	}
	return nil
}

func deploymentsPath(repo Repo) string {
	return "repos/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name) + "/deployments"
}

func statusesPath(repo Repo, id int64) string {
	return fmt.Sprintf("%s/%d/statuses", deploymentsPath(repo), id)
}

func shorten(text string) string {
	if r := []rune(text); len(r) > maxDescription {
		return string(r[:maxDescription-1]) + "…"
	}
	return text
}
