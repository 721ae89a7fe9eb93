package wire

import (
	"fmt"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// Version of this build.
const Version = "0.1.0"

// Log makes the logger that the configuration asks for.
func Log(c *config.Config) (*logrus.Entry, error) {
	l := logrus.New()
	level, err := logrus.ParseLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	l.SetLevel(level)
	if c.LogJSON {
		l.SetFormatter(&logrus.JSONFormatter{})
	} else {
		l.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02 15:04:05.000", DisableColors: true})
	}
	if c.LogFile != "" {
		f, err := os.OpenFile(c.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("[DEFAULT] log_file: %w", err)
		}
		l.SetOutput(f)
	}
	return logrus.NewEntry(l), nil
}

// ConfigError is an error that a change of the configuration mends, and trying again doesn't.
type ConfigError struct{ error }

func (e ConfigError) Unwrap() error { return e.error }

// configError makes one.
func configError(format string, args ...any) error {
	return ConfigError{fmt.Errorf(format, args...)}
}
