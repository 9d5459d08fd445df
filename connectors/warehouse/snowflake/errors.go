package snowflake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	sf "github.com/snowflakedb/gosnowflake"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Numbers of Snowflake's errors, as its drivers and documentation have them.
const (
	errCancelled         = 604
	errNoWarehouse       = 606
	errTimeout           = 630
	errNoPrivilege       = 3001
	errNotThere          = 2003
	errNotThereOperation = 2043
	errMonitor           = 90073

	errMasterNotFound = 390113
	errMasterExpired  = 390114
	errMasterInvalid  = 390115

	errWrongPassword = 390100
	errWrongJWT      = 390144
	errOAuthInvalid  = 390303
	errOAuthExpired  = 390318
	errNetworkPolicy = 390422

	firstOfData = 100_000 // from here on errors are about values
	endOfData   = 200_000
)

// sessionIsOver tells whether Snowflake no longer knows the session.
func sessionIsOver(err error) bool {
	var e *sf.SnowflakeError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Number {
	case sf.ErrSessionGone, errMasterNotFound, errMasterExpired, errMasterInvalid:
		return true
	}
	return false
}

// wrap makes an error of the driver's one of the contract's: Snowflake's words without the statement's or the data's values (I6), and
// the way out. id is the statement's name in the query history, "" where it has none yet.
func (w *Warehouse) wrap(err error, id string) error {
	var known *warehouse.QueryError
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	var e *sf.SnowflakeError
	if !errors.As(err, &e) {
		return w.unreached(err, id)
	}
	if e.QueryID != "" && e.QueryID != "-1" {
		id = e.QueryID
	}
	query := "the query"
	if id != "" {
		query = "query " + id
	}
	out := &warehouse.QueryError{Msg: message(e)}
	set := func(sentinel error, hint string, args ...any) error {
		out.Err, out.Hint = sentinel, fmt.Sprintf(hint, args...)
		return out
	}
	switch n := e.Number; {
	case n == errNoPrivilege || e.SQLState == "42501":
		return set(warehouse.ErrDenied, "%s", w.grantFor(out.Msg))
	case n == errNotThere || n == errNotThereOperation || e.SQLState == "42S02":
		return set(warehouse.ErrNotFound, "is it there, under this name? If so, %s", w.grantFor(out.Msg))
	case n == errNoWarehouse:
		if w.o.warehouse == "" {
			return set(warehouse.ErrDenied, "set warehouse of warehouse: in dray.yaml, or a default one for the user")
		}
		return set(warehouse.ErrDenied, "is there a warehouse %s, and is it one that resumes by itself (ALTER WAREHOUSE %[1]s SET AUTO_RESUME = TRUE)? If so, GRANT USAGE ON WAREHOUSE %[1]s TO ROLE %s", w.o.warehouse, w.role())
	case n == errMonitor || cannotResume.MatchString(out.Msg):
		return set(warehouse.ErrEngine, "the warehouse stays suspended until somebody raises the quota of its resource monitor, or resumes it (ALTER WAREHOUSE … RESUME); or set another warehouse of warehouse: in dray.yaml")
	case n == errTimeout:
		return set(warehouse.ErrEngine, "raise statement_timeout of warehouse: in dray.yaml, and STATEMENT_TIMEOUT_IN_SECONDS of the Snowflake warehouse, whichever is less; look at %s in Snowflake's query history", query)
	case lockWait.MatchString(out.Msg):
		return set(warehouse.ErrEngine, "another statement holds the table: see SHOW LOCKS, and run again")
	case n == errCancelled || e.SQLState == "57014":
		return set(warehouse.ErrEngine, "somebody cancelled %s in Snowflake, or suspended its warehouse: run again", query)
	case sessionIsOver(err):
		return set(warehouse.ErrEngine, "the session ended while %s was under way: run again", query)
	case n == sf.ErrFailedToPostQuery || n == sf.ErrFailedToRenewSession || n == sf.ErrFailedToCancelQuery:
		status := statusOf(e)
		out.Msg = "Snowflake answers with status " + status
		if status == "401" || status == "403" {
			return set(warehouse.ErrDenied, "what stands between here and Snowflake (a proxy, a network policy, private connectivity) does not let requests through")
		}
		return set(warehouse.ErrEngine, "run again later")
	case e.SQLState == "57P03", strings.HasPrefix(e.SQLState, "08"), strings.HasPrefix(e.SQLState, "53"), strings.HasPrefix(e.SQLState, "XX"):
		return set(warehouse.ErrEngine, "look at %s in Snowflake's query history, and run again", query)
	}
	out.Line, out.Msg = place(out.Msg)
	return out
}

var (
	cannotResume = regexp.MustCompile(`(?i)cannot be resumed|warehouse .* (?:is|was) suspended`)
	lockWait     = regexp.MustCompile(`(?i)waiters for this lock|has locked table|waited for the lock`)
)

// statusOf is the HTTP status in an error that the driver makes of one. Its text has the request's address, which is left out.
func statusOf(e *sf.SnowflakeError) string {
	if len(e.MessageArgs) > 0 {
		return fmt.Sprint(e.MessageArgs[0])
	}
	return "unknown"
}

// unreached is an error without an answer of Snowflake's.
func (w *Warehouse) unreached(err error, id string) error {
	out := &warehouse.QueryError{Err: warehouse.ErrEngine, Msg: "the connection to Snowflake broke", Hint: "run again"}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var refused *net.OpError
	switch {
	case errors.As(err, &dns):
		out.Msg, out.Hint = "the host "+w.o.host+" is not known", w.addressHint()
	case errors.As(err, &cert):
		out.Msg, out.Hint = "the host "+w.o.host+" does not show a certificate of its own", w.addressHint()
	case errors.As(err, &refused) && refused.Op == "dial":
		out.Msg, out.Hint = "the host "+w.o.host+" takes no connections", "is there a network, and a way out to port "+strconv.Itoa(w.o.port)+"? "+w.addressHint()
	}
	if id != "" {
		out.Msg += ", with query " + id + " under way"
	}
	return out
}

func (w *Warehouse) addressHint() string {
	return "check account of warehouse: in dray.yaml: it is the organisation and the account, as in the address of Snowflake's web interface (SELECT CURRENT_ORGANIZATION_NAME() || '-' || CURRENT_ACCOUNT_NAME())"
}

// signInError is why there is no session.
func (w *Warehouse) signInError(err error) error {
	var e *sf.SnowflakeError
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return w.unreached(err, "")
	}
	out := &warehouse.QueryError{Msg: message(e), Err: warehouse.ErrDenied}
	switch e.Number {
	case errWrongPassword:
		out.Hint = "check user and password of warehouse: in dray.yaml. A password alone is no longer enough for users that are people: make one of TYPE = SERVICE, with a private_key"
	case errWrongJWT:
		out.Msg = "Snowflake does not accept the private key"
		out.Hint = "is its public half set for the user (DESCRIBE USER " + w.o.user + ": RSA_PUBLIC_KEY_FP), are account and user of warehouse: right, and does this machine's clock go right?"
	case errOAuthInvalid, errOAuthExpired:
		out.Hint = "get a new token for token of warehouse: in dray.yaml: Dray renews none"
	case sf.ErrRoleNotExist:
		out.Msg = "role " + w.role() + " is not there, or is not the user's"
		out.Hint = "GRANT ROLE " + w.role() + " TO USER " + w.o.user
	case sf.ErrObjectNotExistOrAuthorized:
		out.Hint = "is it there, under this name? If so, " + w.grantFor(out.Msg)
	case errNetworkPolicy:
		out.Hint = "a network policy of the account does not let this address in: let an administrator add it"
	case sf.ErrCodeFailedToConnect, sf.ErrFailedToAuth:
		out.Msg, out.Hint = "there is no such account at "+w.o.host+" (status "+statusOf(e)+")", w.addressHint()
	case sf.ErrCodeServiceUnavailable:
		out.Err, out.Msg, out.Hint = warehouse.ErrEngine, "Snowflake answers with status "+statusOf(e), "run again later"
	default:
		if oauth := e.Number >= 390300 && e.Number < 390400; oauth {
			out.Hint = "get a new token for token of warehouse: in dray.yaml"
		}
	}
	return out
}

func (w *Warehouse) role() string {
	if w.o.role != "" {
		return w.o.role
	}
	return "<the role>"
}

var object = regexp.MustCompile(`(?i)\b(?:on )?(table|view|object|schema|database|warehouse|integration|materialized view)\s+'([^']+)'`)

// grantFor is what to grant, by the kind of object that a message is about.
func (w *Warehouse) grantFor(msg string) string {
	m := object.FindStringSubmatch(msg)
	if m == nil {
		return "grant role " + w.role() + " what dray check names"
	}
	name, role := m[2], w.role()
	switch strings.ToLower(m[1]) {
	case "schema":
		if strings.Contains(msg, "privileges to operate") {
			return fmt.Sprintf("GRANT USAGE, CREATE TABLE, CREATE VIEW ON SCHEMA %s TO ROLE %s", name, role)
		}
		return fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO ROLE %s", name, role)
	case "database":
		if strings.Contains(msg, "privileges to operate") {
			return fmt.Sprintf("GRANT USAGE, CREATE SCHEMA ON DATABASE %s TO ROLE %s", name, role)
		}
		return fmt.Sprintf("GRANT USAGE ON DATABASE %s TO ROLE %s", name, role)
	case "warehouse":
		return fmt.Sprintf("GRANT USAGE ON WAREHOUSE %s TO ROLE %s", name, role)
	case "view", "materialized view":
		return fmt.Sprintf("GRANT SELECT ON VIEW %s TO ROLE %s, and USAGE on its database and schema", name, role)
	default:
		return fmt.Sprintf("GRANT SELECT ON TABLE %s TO ROLE %s, and USAGE on its database and schema", name, role)
	}
}

var at = regexp.MustCompile(`\b(?:syntax error |error )?line (\d+) at position \d+\s*`)

// place takes the first place out of a message.
func place(message string) (line int, rest string) {
	m := at.FindStringSubmatchIndex(message)
	if m == nil {
		return 0, message
	}
	line, _ = strconv.Atoi(message[m[2]:m[3]])
	what := ""
	if strings.HasPrefix(message[m[0]:], "syntax error") {
		what = "syntax error "
	}
	return line, strings.TrimSpace(message[:m[0]] + what + message[m[1]:])
}

var (
	// ofNames are messages of the compiler, which quote names and types.
	ofNames = regexp.MustCompile(`^SQL (?:compilation|access control) error`)
	// literals in those stand in quotes twice: unexpected ''text''.
	literals = regexp.MustCompile(`(?s)''.*?''`)
	numbers  = regexp.MustCompile(`unexpected '[-+]?[\d.]+'`)
	quoted   = regexp.MustCompile(`(?s)'(?:[^']|'')*'|"(?:[^"]|"")*"|\[[^\]]*\]`)
)

// message is Snowflake's, on one line and without values.
func message(e *sf.SnowflakeError) string {
	s := e.Message
	if len(e.MessageArgs) > 0 { // the driver's own
		s = fmt.Sprintf(s, e.MessageArgs...)
	}
	s = strings.Join(strings.Fields(s), " ")
	switch {
	case e.Number >= 390_000 && e.Number < 400_000: // of signing in: names, and ids of the attempt
		return s
	case (e.Number < firstOfData || e.Number >= endOfData) && ofNames.MatchString(s):
		return numbers.ReplaceAllString(literals.ReplaceAllString(s, "'***'"), "unexpected '***'")
	case e.Number == errMonitor || cannotResume.MatchString(s):
		return s
	}
	return quoted.ReplaceAllString(s, "'***'")
}
