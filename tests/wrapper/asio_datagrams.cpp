// SPDX-License-Identifier: Apache-2.0
//
// UDP sockets on boost.asio with the habits of the field's C++ stack, told line by line what to do.
// Every descriptor is in an edge-triggered set before it is bound. Newer releases let asio receive;
// older ones wait until a socket can be read and call recvmsg() themselves.
//
//   asio_datagrams
//
// There are two sets: the first has two threads, the second one. A line of input is answered by a
// line "= RESULT" or "! ERROR"; what happens to a socket is said in lines "NAME EVENT".
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/multicast.hpp>
#include <boost/asio/ip/udp.hpp>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

namespace asio = boost::asio;
namespace ip = asio::ip;
using boost::system::error_code;
using ip::udp;

static void print(const std::string &line)
{
    static std::mutex mutex;
    std::lock_guard<std::mutex> guard(mutex);
    std::cout << line << std::endl;
}

static std::string text(const udp::endpoint &endpoint)
{
    return endpoint.address().to_string() + ':' + std::to_string(endpoint.port());
}

static udp::endpoint endpoint(std::istream &words)
{
    std::string address;
    unsigned short port = 0;
    words >> address >> port;
    return {ip::make_address(address), port};
}

static std::string rest(std::istream &words)
{
    std::string line;
    std::getline(words >> std::ws, line);
    return line;
}

class Socket : public std::enable_shared_from_this<Socket> {
public:
    Socket(std::string name, udp::socket socket)
        : name_(std::move(name)), socket_(std::move(socket))
    {
    }

    // Commands come from the main thread, completions from those of the sets.
    std::string command(const std::string &verb, std::istream &words)
    {
        std::lock_guard<std::mutex> guard(mutex_);
        return execute(verb, words);
    }

    int copied() { return dup(socket_.native_handle()); }

    void move(asio::io_context &to)
    {
        std::lock_guard<std::mutex> guard(mutex_);
        const int fd = socket_.release(); // ends what is under way, and takes it out of its set
        socket_ = udp::socket(to, udp::v4(), fd);
    }

private:
    std::string execute(const std::string &verb, std::istream &words)
    {
        if (verb == "bind")
            socket_.bind(endpoint(words));
        else if (verb == "name")
            return text(socket_.local_endpoint());
        else if (verb == "connect")
            socket_.connect(endpoint(words));
        else if (verb == "option")
            set_option(words);
        else if (verb == "join" || verb == "leave")
            change_membership(verb, words);
        else if (verb == "send")
            socket_.send(asio::buffer(rest(words)));
        else if (verb == "sendto")
            send_to(words);
        else if (verb == "available")
            return std::to_string(socket_.available());
        else if (verb == "receive")
            words >> how_, receive();
        else if (verb == "wait")
            wait(words);
        else if (verb == "talk")
            talk(words);
        else if (verb == "cancel")
            socket_.cancel();
        else if (verb == "shutdown")
            socket_.shutdown(udp::socket::shutdown_both);
        else if (verb == "move-object") // the set stays, the object is another
            socket_ = udp::socket(std::move(socket_));
        else if (verb == "close")
            socket_.close();
        else
            throw std::runtime_error("no such command: " + verb);
        return "";
    }

    void set_option(std::istream &words)
    {
        std::string option;
        words >> option;
        const int on = 1;
        const timeval half = {0, 500000};
        const int fd = socket_.native_handle();
        if (option == "reuse")
            socket_.set_option(udp::socket::reuse_address(true));
        else if (option == "broadcast")
            socket_.set_option(asio::socket_base::broadcast(true));
        else if (option == "buffer")
            socket_.set_option(asio::socket_base::receive_buffer_size(1703936));
        else if (option == "out")
            socket_.set_option(ip::multicast::outbound_interface(ip::make_address_v4(rest(words))));
        else if (option == "pktinfo")
            setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
        else if (option == "timeouts")
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &half, sizeof half),
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &half, sizeof half);
        else
            throw std::runtime_error("no such option: " + option);
    }

    void change_membership(const std::string &verb, std::istream &words)
    {
        std::string group, interface;
        words >> group >> interface;
        const auto g = ip::make_address_v4(group), i = ip::make_address_v4(interface);
        if (verb == "join")
            socket_.set_option(ip::multicast::join_group(g, i));
        else
            socket_.set_option(ip::multicast::leave_group(g, i));
    }

    void send_to(std::istream &words)
    {
        const udp::endpoint to = endpoint(words);
        socket_.send_to(asio::buffer(rest(words)), to);
    }

    void say(const std::string &event) { print(name_ + ' ' + event); }

    // ---- receiving, "once" or until it fails, by asio or by recvmsg()

    void receive()
    {
        auto self = shared_from_this();
        if (how_.find("recvmsg") == 0)
            socket_.async_wait(udp::socket::wait_read, [self](error_code error) {
                std::lock_guard<std::mutex> guard(self->mutex_);
                error ? self->say("ended: " + error.message()) : self->receive_message();
            });
        else
            socket_.async_receive_from(asio::buffer(bytes_), from_,
                                       [self](error_code error, std::size_t n) {
                                           std::lock_guard<std::mutex> guard(self->mutex_);
                                           error ? self->say("ended: " + error.message())
                                                 : self->received(n, "");
                                       });
    }

    void receive_message()
    {
        if (!socket_.is_open()) // meanwhile
            return say("ended: " + error_code(asio::error::operation_aborted).message());
        std::array<char, 128> control{};
        iovec piece = {bytes_.data(), 1416};
        msghdr message{};
        message.msg_name = from_.data();
        message.msg_namelen = static_cast<socklen_t>(from_.capacity());
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t n = recvmsg(socket_.native_handle(), &message, 0);
        if (n < 0 && errno == EAGAIN) // two threads may be told of the same
            return receive();
        if (n < 0)
            return say("recvmsg: " + error_code(errno, asio::error::get_system_category()).message());
        from_.resize(message.msg_namelen);
        received(static_cast<std::size_t>(n), told(message));
    }

    static std::string told(msghdr &message)
    {
        std::string all = message.msg_flags ? " flags " + std::to_string(message.msg_flags) : "";
        for (cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
            in_pktinfo info;
            std::array<char, IF_NAMESIZE> device{};
            if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
                return all + " strange message";
            std::memcpy(&info, CMSG_DATA(c), sizeof info);
            if_indextoname(static_cast<unsigned>(info.ipi_ifindex), device.data());
            all += " to " + ip::address_v4(ntohl(info.ipi_addr.s_addr)).to_string() + " at " +
                   ip::address_v4(ntohl(info.ipi_spec_dst.s_addr)).to_string() + " by " +
                   device.data();
        }
        return all;
    }

    void received(std::size_t size, const std::string &how)
    {
        std::string what(bytes_.data(), size);
        if (what[0] == '?')
            answer(what);
        else if (what[0] == '!')
            answered(what);
        else
            say("got " + what + " from " + text(from_) + how);
        if (how_.find("once") == std::string::npos && socket_.is_open())
            receive();
    }

    void wait(std::istream &words)
    {
        std::string what;
        words >> what;
        auto self = shared_from_this();
        socket_.async_wait(what == "read"    ? udp::socket::wait_read
                           : what == "write" ? udp::socket::wait_write
                                             : udp::socket::wait_error,
                           [self, what](error_code error) {
                               std::lock_guard<std::mutex> guard(self->mutex_);
                               self->say(what + ": " + error.message());
                           });
    }

    // ---- conversations: what begins with '?' is answered, with '!' in its place

    void answer(const std::string &question)
    {
        auto bytes = std::make_shared<std::string>('!' + question.substr(1));
        socket_.async_send_to(asio::buffer(*bytes), from_, [bytes](error_code, std::size_t) {});
    }

    void talk(std::istream &words)
    {
        words >> talk_count_;
        talked_ = wrong_ = 0;
        ask();
    }

    void ask()
    {
        const std::string head = '?' + std::to_string(talked_) + ' ';
        question_ = head + std::string(static_cast<std::size_t>(talked_ * 37 % 1400), '.');
        socket_.async_send(asio::buffer(question_), [](error_code, std::size_t) {});
    }

    void answered(const std::string &what)
    {
        wrong_ += what.substr(1) != question_.substr(1);
        if (++talked_ < talk_count_)
            ask();
        else
            say("answered " + std::to_string(talked_) + ", wrong " + std::to_string(wrong_));
    }

    const std::string name_;
    std::mutex mutex_;
    udp::socket socket_;
    std::string how_, question_;
    std::array<char, 1536> bytes_;
    udp::endpoint from_;
    int talk_count_ = 0, talked_ = 0, wrong_ = 0;
};

class Peer {
public:
    std::string command(const std::string &line)
    {
        std::istringstream words(line);
        std::string verb, name;
        words >> verb >> name;
        if (verb == "open")
            return open(name, udp::socket(set(words), udp::v4()));
        auto found = sockets_.find(name);
        if (found == sockets_.end())
            throw std::runtime_error("no such socket: " + name);
        if (verb == "move")
            return found->second->move(set(words)), "";
        if (verb == "copy") {
            std::string copy;
            words >> copy;
            return open(copy, udp::socket(set(words), udp::v4(), found->second->copied()));
        }
        return found->second->command(verb, words);
    }

    void run(std::istream &commands)
    {
        auto first = asio::make_work_guard(sets_[0]), second = asio::make_work_guard(sets_[1]);
        for (int i : {0, 0, 1})
            std::thread([this, i] { sets_[static_cast<std::size_t>(i)].run(); }).detach();
        for (std::string line; std::getline(commands, line);) {
            try {
                print("= " + command(line));
            } catch (const boost::system::system_error &error) {
                print("! " + error.code().message());
            }
        }
    }

private:
    std::string open(const std::string &name, udp::socket socket)
    {
        sockets_[name] = std::make_shared<Socket>(name, std::move(socket));
        return "";
    }

    asio::io_context &set(std::istream &words)
    {
        std::size_t number = 0;
        words >> number;
        return sets_.at(number);
    }

    std::array<asio::io_context, 2> sets_;
    std::map<std::string, std::shared_ptr<Socket>> sockets_;
};

int main()
{
    static Peer peer; // its threads go on to the end
    peer.run(std::cin);
    std::cout.flush();
    _exit(0);
}
