package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"cloud.google.com/go/auth"
	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// failure is what BigQuery says, whether of a request or of a job.
type failure struct {
	code    int    // HTTP's; 0 of a job
	reason  string // of the list in "Error messages" of its documentation
	message string
}

func failureOf(err error) (failure, bool) {
	var api *googleapi.Error
	var job *bq.Error
	switch {
	case errors.As(err, &job):
		return failure{0, job.Reason, job.Message}, true
	case errors.As(err, &api):
		f := failure{code: api.Code, message: api.Message}
		if len(api.Errors) > 0 {
			f.reason = api.Errors[0].Reason
		}
		return f, true
	}
	return failure{}, false
}

// wrap makes an error of the client's one of the contract's: the engine's words without the statement's values (I6), and the way out.
func wrap(err error, j job) error {
	if err == nil {
		return nil
	}
	var known *warehouse.QueryError
	if errors.As(err, &known) {
		return err
	}
	f, ok := failureOf(err)
	if !ok {
		return unreached(err, j)
	}
	out := &warehouse.QueryError{Msg: oneLine(f.message)}
	set := func(sentinel error, hint string, args ...any) error {
		out.Err, out.Hint = sentinel, fmt.Sprintf(hint, args...)
		return out
	}
	in := "its project"
	if j.id != "" {
		in = "job " + j.id
	}
	switch f.reason {
	case "accessDenied":
		out.Msg = denied(out.Msg)
		return set(warehouse.ErrDenied, "%s", grantFor(out.Msg))
	case "quotaExceeded":
		return set(warehouse.ErrEngine, "a quota of the project is used up: see IAM & Admin → Quotas of the project; it refills within a day, or can be raised there")
	case "rateLimitExceeded", "jobRateLimitExceeded":
		return set(warehouse.ErrEngine, "a short-term limit: run again, less often or with fewer threads")
	case "bytesBilledLimitExceeded":
		return set(warehouse.ErrEngine, "raise maximum_bytes_billed of warehouse: in dray.yaml, or read less: partition the table and filter by the partition")
	case "billingNotEnabled":
		return set(warehouse.ErrEngine, "enable billing for the project: without it BigQuery changes no rows")
	case "stopped":
		if strings.Contains(out.Msg, "timed out") {
			return set(warehouse.ErrEngine, "raise job_execution_timeout_seconds of warehouse: in dray.yaml, or look at %s in BigQuery", in)
		}
		return set(warehouse.ErrEngine, "somebody cancelled %s in BigQuery: run again", in)
	case "timeout":
		return set(warehouse.ErrEngine, "look at %s in BigQuery; with less data or more slots it may end in time", in)
	case "resourcesExceeded", "responseTooLarge":
		return set(warehouse.ErrEngine, "look at %s in BigQuery: it needs more memory or slots than it was given", in)
	case "notFound":
		hint := "is it there, under this name and in this project?"
		if strings.Contains(out.Msg, "not found in location") {
			hint = "is it there under this name? Datasets of another region are not seen: set location of warehouse: in dray.yaml to theirs"
		}
		return set(warehouse.ErrNotFound, "%s", hint)
	case "backendError", "internalError", "jobBackendError", "jobInternalError", "tableUnavailable":
		return set(warehouse.ErrEngine, "BigQuery failed at %s, more than once: run again later", in)
	}
	switch {
	case f.code == http.StatusUnauthorized:
		out.Msg = "BigQuery does not accept the credentials"
		return set(warehouse.ErrDenied, credentialHint)
	case f.code == http.StatusForbidden:
		out.Msg = denied(out.Msg)
		return set(warehouse.ErrDenied, "%s", grantFor(out.Msg))
	case f.code == http.StatusNotFound:
		return set(warehouse.ErrNotFound, "is it there, under this name and in this project?")
	case f.code >= http.StatusInternalServerError:
		out.Msg = fmt.Sprintf("BigQuery answers with status %d", f.code)
		return set(warehouse.ErrEngine, "run again later")
	case region.MatchString(out.Msg):
		return set(warehouse.ErrEngine, "all that one statement reads must be in one region: set location of warehouse: in dray.yaml to the datasets'")
	case strings.Contains(out.Msg, "due to concurrent update"):
		return set(warehouse.ErrEngine, "another job kept changing the same table: run again")
	}
	out.Line, out.Msg = place(out.Msg)
	out.Msg = withoutValues(out.Msg)
	return out
}

var region = regexp.MustCompile(`(?i)(cannot (read|query) and write in different locations|different locations|does not match .*location)`)

// unreached is an error without an answer of BigQuery's.
func unreached(err error, j job) error {
	out := &warehouse.QueryError{Err: warehouse.ErrEngine, Msg: "the connection to BigQuery broke", Hint: "run again"}
	var dns *net.DNSError
	switch {
	case isCredential(err):
		out.Err, out.Msg, out.Hint = warehouse.ErrDenied, "Google does not accept the credentials: "+credentialWords(err), credentialHint
	case errors.As(err, &dns):
		out.Msg, out.Hint = "BigQuery's host is not known", "is there a network? See also api_endpoint of warehouse: in dray.yaml"
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		out.Msg = "BigQuery did not answer in time"
	}
	if j.id != "" {
		out.Msg += ", with job " + j.id + " under way"
	}
	return out
}

func isCredential(err error) bool {
	var e *auth.Error
	return errors.As(err, &e) || strings.Contains(err.Error(), "credentials: ")
}

// credentialWords is what is wrong with credentials. The answers of Google's token service are left out, but for their code: they may
// repeat what was sent.
func credentialWords(err error) string {
	var e *auth.Error
	if errors.As(err, &e) {
		if m := oauthCode.FindSubmatch(e.Body); m != nil {
			return string(m[1])
		}
		if e.Response != nil {
			return fmt.Sprintf("status %d", e.Response.StatusCode)
		}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	if strings.Contains(err.Error(), "could not find default credentials") {
		return "there are none on this machine"
	}
	return "the key does not read"
}

var oauthCode = regexp.MustCompile(`"(?:error|status)"\s*:\s*"([A-Za-z_]{1,40})"`)

var permission = regexp.MustCompile(`\bbigquery\.[a-z]+\.[a-zA-Z]+\b`)

// denied puts the missing permission first, where BigQuery names it.
func denied(message string) string {
	if p := permission.FindString(message); p != "" && !strings.HasPrefix(message, "permission") {
		return "permission " + p + " is missing: " + message
	}
	return message
}

// roleOf is the smallest of BigQuery's own roles that has a permission ("BigQuery IAM roles and permissions" in its documentation).
func roleOf(permission string) string {
	switch permission {
	case "bigquery.jobs.create":
		return "roles/bigquery.jobUser on the project that pays"
	case "bigquery.readsessions.create":
		return "roles/bigquery.readSessionUser on the project that pays"
	case "bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.list", "bigquery.datasets.get":
		return "roles/bigquery.dataViewer on the dataset"
	case "bigquery.tables.create", "bigquery.tables.update", "bigquery.tables.updateData", "bigquery.tables.delete":
		return "roles/bigquery.dataEditor on Dray's own dataset"
	case "bigquery.datasets.create":
		return "a role that has it on the project, such as roles/bigquery.user: plans are made in a dataset of their own"
	}
	return ""
}

// grantFor is what to grant.
func grantFor(message string) string {
	if role := roleOf(permission.FindString(message)); role != "" {
		return "grant " + role
	}
	return "grant roles/bigquery.jobUser on the project, roles/bigquery.dataViewer on the datasets that are read, roles/bigquery.dataEditor on Dray's own: dray check names what is missing"
}

var at = regexp.MustCompile(` at \[(\d+):\d+\]`)

// place takes the place out of a message, which may be anywhere in it.
func place(message string) (line int, rest string) {
	m := at.FindStringSubmatchIndex(message)
	if m == nil {
		return 0, message
	}
	line, _ = strconv.Atoi(message[m[2]:m[3]])
	return line, strings.TrimSpace(message[:m[0]] + message[m[1]:])
}

var (
	// ofNames are messages of the analyzer, which knows names and types but no data.
	ofNames = regexp.MustCompile(`^(Syntax error|Unrecognized name|Name \S+ |Function not found|No matching signature|Table |Table-valued function|Column |Column name|` +
		`Duplicate |SELECT list|Field name|Cannot access field|Type not found|Query without FROM|Aggregate |Grouping by|ORDER BY|WHERE clause|HAVING |GROUP BY|` +
		`Inserted row|Query column|Value has type|Query parameter|Invalid field name|Dataset |Unsupported|Not found|Already Exists|An expression references|INSERT |UPDATE |DELETE |MERGE )`)
	literals = regexp.MustCompile(`(?s)(?:(?P<named>\b(?:identifier|keyword) )("(?:[^"\\]|\\.)*"))|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"`)
	numbers  = regexp.MustCompile(`\bliteral -?[\d.]+`)
	// ofData are messages that end in the value they are about, behind a colon.
	ofData = regexp.MustCompile(`(?s)^([^:]{1,200}): .*$`)
	value  = regexp.MustCompile(`(?s)\bValue: .*$`)
)

// withoutValues takes out what may be of the statement's literals or of the data. The analyzer's messages keep their names; of all
// others only what stands before the first colon is kept, as the value is behind it (Bad int64 value: abc).
func withoutValues(message string) string {
	switch {
	case value.MatchString(message):
		message = value.ReplaceAllString(message, "Value: ***")
	case !ofNames.MatchString(message):
		message = ofData.ReplaceAllString(message, "$1: ***")
	}
	message = numbers.ReplaceAllString(message, "literal ***")
	return literals.ReplaceAllStringFunc(message, func(s string) string {
		if strings.HasPrefix(s, "identifier ") || strings.HasPrefix(s, "keyword ") {
			return s
		}
		return "'***'"
	})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
