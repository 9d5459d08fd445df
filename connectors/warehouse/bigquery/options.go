package bigquery

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bq "cloud.google.com/go/bigquery"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
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

func invalid(key, format string, args ...any) *warehouse.OptionError {
	return &warehouse.OptionError{Key: key, Err: diag.Errorf(diag.Invalid, "warehouse.option", format, args...)}
}

func (o *options) hinted(e *warehouse.OptionError, format string, args ...any) error {
	_ = e.Err.WithHint(format, args...)
	return e
}

// parse reads the options; dir is where relative paths begin. No error quotes a key.
func parse(given map[string]any, dir string) (*options, error) {
	o := &options{storage: true}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(keys(), key) {
			return nil, o.hinted(invalid(key, "the BigQuery warehouse has no option %q", key), "it has %s", strings.Join(keys(), ", "))
		}
	}
	text := func(key string) string {
		if v, ok := given[key]; ok && v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	o.project, o.execution, o.dataset, o.location = text("project"), text("execution_project"), text("dataset"), text("location")
	o.impersonate = text("impersonate_service_account")
	if o.project == "" {
		return nil, o.hinted(invalid("project", "the BigQuery warehouse needs a project"), "project: my-project-id")
	}
	if o.execution == "" {
		o.execution = o.project
	}
	for key, id := range map[string]string{"project": o.project, "execution_project": o.execution} {
		if !projectID.MatchString(id) {
			return nil, o.hinted(invalid(key, "%s of the BigQuery warehouse is not a project's id", key),
				"an id has 6 to 30 lower-case letters, digits and hyphens; it is not the project's name or number")
		}
	}
	if o.dataset != "" && !datasetID.MatchString(o.dataset) {
		return nil, o.hinted(invalid("dataset", "dataset of the BigQuery warehouse is not a dataset's id"), "letters, digits and underscores, without the project")
	}
	if o.impersonate != "" && !strings.Contains(o.impersonate, "@") {
		return nil, o.hinted(invalid("impersonate_service_account", "impersonate_service_account of the BigQuery warehouse is not a service account"), "dray@my-project-id.iam.gserviceaccount.com")
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
		return o.hinted(invalid("keyfile_json", "the BigQuery warehouse has both keyfile and keyfile_json"), "leave one of them out")
	case file != "":
		if home, ok := strings.CutPrefix(file, "~/"); ok {
			if base, err := os.UserHomeDir(); err == nil {
				file = filepath.Join(base, home)
			}
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, filepath.FromSlash(file))
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return &warehouse.OptionError{Key: "keyfile", Err: &diag.Error{Code: "warehouse.option", Msg: "the BigQuery warehouse's keyfile cannot be read", Err: err}}
		}
		o.keyfile, o.key = file, b
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
		return o.hinted(invalid(which, "%s of the BigQuery warehouse is no key: it is not JSON with a type", which),
			"a service account's key as Google made it, for example \"${file:/run/secrets/dray.json}\"")
	}
	if !slices.Contains([]string{"service_account", "authorized_user", "external_account", "impersonated_service_account"}, kind.Type) {
		return invalid(which, "%s of the BigQuery warehouse is a key of a type that is not known here", which)
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
		return invalid("priority", "priority of the BigQuery warehouse must be interactive or batch")
	}
	if n := text("maximum_bytes_billed"); n != "" {
		v, err := strconv.ParseInt(strings.ReplaceAll(n, "_", ""), 10, 64)
		if err != nil || v < 1 {
			return o.hinted(invalid("maximum_bytes_billed", "maximum_bytes_billed of the BigQuery warehouse must be a whole number of bytes"), "100 GB: 100000000000")
		}
		o.maxBytes = v
	}
	if n := text("job_execution_timeout_seconds"); n != "" {
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 {
			return invalid("job_execution_timeout_seconds", "job_execution_timeout_seconds of the BigQuery warehouse must be a whole number of seconds")
		}
		o.timeout = time.Duration(v) * time.Second
	}
	switch s := text("storage_read_api"); s {
	case "", "true":
	case "false":
		o.storage = false
	default:
		return invalid("storage_read_api", "storage_read_api of the BigQuery warehouse must be true or false")
	}
	if given["labels"] == nil {
		return nil
	}
	labels, ok := given["labels"].(map[string]any)
	if !ok {
		return o.hinted(invalid("labels", "labels of the BigQuery warehouse must be names with texts"), "labels: {team: growth}")
	}
	o.labels = map[string]string{}
	for name, v := range labels {
		value := ""
		if v != nil {
			value = fmt.Sprint(v)
		}
		if !labelName.MatchString(name) || !labelText.MatchString(value) {
			return o.hinted(invalid("labels", "label %q of the BigQuery warehouse is not one that BigQuery takes", name),
				"at most 63 lower-case letters, digits, hyphens and underscores, the name beginning with a letter")
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
			return o.hinted(invalid("api_endpoint", "api_endpoint of the BigQuery warehouse is not a URL"), "https://bigquery-me.p.googleapis.com")
		}
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			return o.hinted(invalid("api_endpoint", "api_endpoint of the BigQuery warehouse is not encrypted"), "http:// is for a stand-in on this machine alone")
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/bigquery/v2/"
		}
		o.endpoint = strings.TrimSuffix(u.String(), "/") + "/"
	}
	if e := text("storage_api_endpoint"); e != "" {
		if _, _, err := net.SplitHostPort(e); err != nil {
			return o.hinted(invalid("storage_api_endpoint", "storage_api_endpoint of the BigQuery warehouse is not a host with its port"), "bigquerystorage-me.p.googleapis.com:443")
		}
		o.storageEndpoint = e
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// plain tells whether the API is a stand-in's on this machine, which gets credentials only where they are given.
func (o *options) plain() bool { return strings.HasPrefix(o.endpoint, "http://") }
