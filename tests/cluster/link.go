package main

import (
	"encoding/binary"
	"errors"
	"syscall"
)

// Attributes of a link, from linux/if_link.h.
const (
	linkName     = 3
	linkInfo     = 18
	linkInfoKind = 1
)

// addLink makes a network link of a kind, such as a bridge. A machine may have no program `ip`.
func addLink(name, kind string) error {
	info := attribute(linkInfo, attribute(linkInfoKind, []byte(kind)))
	return changeLink(syscall.RTM_NEWLINK, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL, name, info)
}

func deleteLink(name string) error {
	return changeLink(syscall.RTM_DELLINK, 0, name, nil)
}

// changeLink sends the kernel one request about a link, as rtnetlink(7) has them, and waits for its answer.
func changeLink(request, flags uint16, name string, more []byte) error {
	socket, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer syscall.Close(socket)
	content := make([]byte, syscall.SizeofIfInfomsg) // of any family, and found by its name
	content = append(content, attribute(linkName, append([]byte(name), 0))...)
	content = append(content, more...)
	message := binary.NativeEndian.AppendUint32(nil, uint32(syscall.NLMSG_HDRLEN+len(content)))
	message = binary.NativeEndian.AppendUint16(message, request)
	message = binary.NativeEndian.AppendUint16(message, flags|syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	message = binary.NativeEndian.AppendUint64(message, 0) // sequence number and port: the kernel knows who asks
	if err := syscall.Sendto(socket, append(message, content...), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, syscall.Getpagesize())
	length, _, err := syscall.Recvfrom(socket, answer, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(answer[:length])
	if err != nil {
		return err
	}
	if len(messages) == 0 || messages[0].Header.Type != syscall.NLMSG_ERROR || len(messages[0].Data) < 4 {
		return errors.New("the kernel's answer is no acknowledgement")
	}
	if code := int32(binary.NativeEndian.Uint32(messages[0].Data)); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}

// attribute is one as rtnetlink(7) has them: its length, its kind and its value, filled up to four bytes.
func attribute(kind uint16, value []byte) []byte {
	encoded := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	encoded = binary.NativeEndian.AppendUint16(encoded, kind)
	encoded = append(encoded, value...)
	return append(encoded, make([]byte, -len(encoded)&3)...)
}
