package bigquery

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bq "cloud.google.com/go/bigquery"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// options are the keys of `warehouse:`, named as dbt-bigquery names them.
type options struct {
	project, execution string // of the data, and where jobs run and are paid
	dataset, location  string
	keyfile            string // a path
	key                []byte // the key itself
	keyType            string
	impersonate        string
	endpoint           string // of the REST API, with a slash at its end; empty = Google's
	storageEndpoint    string // host:port of the Storage Read API; empty = Google's
	storage            bool   // whether large results are read by the Storage Read API
	priority           bq.QueryPriority
	maxBytes           int64
	timeout            time.Duration // of a job, by BigQuery itself; 0 = its own limit
	labels             map[string]string
}

// keys are sorted as the docs have them.
func keys() []string {
	return []string{
		"project", "dataset", "execution_project", "location", "keyfile", "keyfile_json", "impersonate_service_account", "priority",
		"maximum_bytes_billed", "job_execution_timeout_seconds", "labels", "storage_read_api", "api_endpoint", "storage_api_endpoint",
	}
}

var (
	projectID = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	datasetID = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	labelName = regexp.MustCompile(`^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$`)
	labelText = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$`)
)

// parse reads the options; dir is where relative paths begin. No error quotes a key.
func parse(given map[string]any, dir string) (*options, error) {
	o := &options{storage: true}
	text, err := warehouse.OptionTexts("BigQuery", given, keys())
	if err != nil {
		return nil, err
	}
	o.project, o.execution, o.dataset, o.location = text("project"), text("execution_project"), text("dataset"), text("location")
	o.impersonate = text("impersonate_service_account")
	if o.project == "" {
		return nil, warehouse.InvalidOption("project", "the BigQuery warehouse needs a project").WithHint("project: my-project-id")
	}
	if o.execution == "" {
		o.execution = o.project
	}
	for key, id := range map[string]string{"project": o.project, "execution_project": o.execution} {
		if !projectID.MatchString(id) {
			return nil, warehouse.InvalidOption(key, "%s of the BigQuery warehouse is not a project's id", key).WithHint("an id has 6 to 30 lower-case letters, digits and hyphens; it is not the project's name or number")
		}
	}
	if o.dataset != "" && !datasetID.MatchString(o.dataset) {
		return nil, warehouse.InvalidOption("dataset", "dataset of the BigQuery warehouse is not a dataset's id").WithHint("letters, digits and underscores, without the project")
	}
	if o.impersonate != "" && !strings.Contains(o.impersonate, "@") {
		return nil, warehouse.InvalidOption("impersonate_service_account", "impersonate_service_account of the BigQuery warehouse is not a service account").WithHint("dray@my-project-id.iam.gserviceaccount.com")
	}
	for _, part := range []func(map[string]any, func(string) string, string) error{o.parseKey, o.parseLimits, o.parseEndpoints} {
		if err := part(given, text, dir); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *options) parseKey(_ map[string]any, text func(string) string, dir string) error {
	file, key := text("keyfile"), text("keyfile_json")
	switch {
	case file != "" && key != "":
		return warehouse.InvalidOption("keyfile_json", "the BigQuery warehouse has both keyfile and keyfile_json").WithHint("leave one of them out")
	case file != "":
		path, b, err := warehouse.OptionFile("BigQuery", "keyfile", file, dir)
		if err != nil {
			return err
		}
		o.keyfile, o.key = path, b
	case key != "":
		o.key = []byte(key)
	default:
		return nil
	}
	which := "keyfile"
	if o.keyfile == "" {
		which = "keyfile_json"
	}
	var kind struct{ Type string }
	if err := json.Unmarshal(o.key, &kind); err != nil || kind.Type == "" { // the parser's words would quote the key
		return warehouse.InvalidOption(which, "%s of the BigQuery warehouse is no key: it is not JSON with a type", which).WithHint("a service account's key as Google made it, for example \"${file:/run/secrets/dray.json}\"")
	}
	if !slices.Contains([]string{"service_account", "authorized_user", "external_account", "impersonated_service_account"}, kind.Type) {
		return warehouse.InvalidOption(which, "%s of the BigQuery warehouse is a key of a type that is not known here", which)
	}
	o.keyType = kind.Type
	return nil
}

func (o *options) parseLimits(given map[string]any, text func(string) string, _ string) error {
	switch p := strings.ToLower(text("priority")); p {
	case "", "interactive":
		o.priority = bq.InteractivePriority
	case "batch":
		o.priority = bq.BatchPriority
	default:
		return warehouse.InvalidOption("priority", "priority of the BigQuery warehouse must be interactive or batch")
	}
	if n := text("maximum_bytes_billed"); n != "" {
		v, err := strconv.ParseInt(strings.ReplaceAll(n, "_", ""), 10, 64)
		if err != nil || v < 1 {
			return warehouse.InvalidOption("maximum_bytes_billed", "maximum_bytes_billed of the BigQuery warehouse must be a whole number of bytes").WithHint("100 GB: 100000000000")
		}
		o.maxBytes = v
	}
	if n := text("job_execution_timeout_seconds"); n != "" {
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 {
			return warehouse.InvalidOption("job_execution_timeout_seconds", "job_execution_timeout_seconds of the BigQuery warehouse must be a whole number of seconds")
		}
		o.timeout = time.Duration(v) * time.Second
	}
	switch s := text("storage_read_api"); s {
	case "", "true":
	case "false":
		o.storage = false
	default:
		return warehouse.InvalidOption("storage_read_api", "storage_read_api of the BigQuery warehouse must be true or false")
	}
	if given["labels"] == nil {
		return nil
	}
	labels, ok := given["labels"].(map[string]any)
	if !ok {
		return warehouse.InvalidOption("labels", "labels of the BigQuery warehouse must be names with texts").WithHint("labels: {team: growth}")
	}
	o.labels = map[string]string{}
	for name, v := range labels {
		value := ""
		if v != nil {
			value = fmt.Sprint(v)
		}
		if !labelName.MatchString(name) || !labelText.MatchString(value) {
			return warehouse.InvalidOption("labels", "label %q of the BigQuery warehouse is not one that BigQuery takes", name).WithHint("at most 63 lower-case letters, digits, hyphens and underscores, the name beginning with a letter")
		}
		o.labels[name] = value
	}
	return nil
}

func (o *options) parseEndpoints(_ map[string]any, text func(string) string, _ string) error {
	if e := text("api_endpoint"); e != "" {
		if !strings.Contains(e, "://") {
			e = "https://" + e
		}
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return warehouse.InvalidOption("api_endpoint", "api_endpoint of the BigQuery warehouse is not a URL").WithHint("https://bigquery-me.p.googleapis.com")
		}
		if u.Scheme == "http" && !warehouse.Loopback(u.Hostname()) {
			return warehouse.InvalidOption("api_endpoint", "api_endpoint of the BigQuery warehouse is not encrypted").WithHint("http:// is for a stand-in on this machine alone")
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/bigquery/v2/"
		}
		o.endpoint = strings.TrimSuffix(u.String(), "/") + "/"
	}
	if e := text("storage_api_endpoint"); e != "" {
		if _, _, err := net.SplitHostPort(e); err != nil {
			return warehouse.InvalidOption("storage_api_endpoint", "storage_api_endpoint of the BigQuery warehouse is not a host with its port").WithHint("bigquerystorage-me.p.googleapis.com:443")
		}
		o.storageEndpoint = e
	}
	return nil
}

// plain tells whether the API is a stand-in's on this machine, which gets credentials only where they are given.
func (o *options) plain() bool { return strings.HasPrefix(o.endpoint, "http://") }
