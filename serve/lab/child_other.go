//go:build !linux

package lab

import "syscall"

// childAttributes keep the terminal's ^C from serve: the lab stops it in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
