// SPDX-License-Identifier: Apache-2.0
//
// A SOME/IP-like peer on boost.asio with the habits of the field's C++ stack: every descriptor in
// an edge-triggered set before it is bound or connected, an acceptor in a set of its own whose
// connections move to another, connect without waiting, a header of 8 bytes read first and then
// the rest, the kernel's queue asked before a close, and a close that resets.
//
//   asio_peer server ADDRESS PORT ROUNDS
//   asio_peer client OWN-ADDRESS ADDRESS PORT ROUNDS
//
// Every connection carries numbered messages; what happened to each is said, one line a connection.
// The last one ends with the client's input.
#include <sys/ioctl.h>

#include <array>
#include <boost/asio.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int messages = 300;

static std::vector<std::uint8_t> message(std::uint32_t number)
{
    const std::uint32_t length = number * 37 % 3000;
    std::vector<std::uint8_t> bytes(8 + length, static_cast<std::uint8_t>(number));
    std::memcpy(bytes.data(), &number, 4);
    std::memcpy(bytes.data() + 4, &length, 4);
    return bytes;
}

static void set_options(tcp::socket &socket)
{
    const int one = 1, three = 3, user_timeout = 3000;
    const int fd = socket.native_handle();
    socket.set_option(tcp::no_delay(true));
    socket.set_option(asio::socket_base::keep_alive(true));
    socket.set_option(asio::socket_base::linger(true, 0));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &three, sizeof three);
}

// Reads a message: its header, then the rest.
class Reader {
public:
    explicit Reader(tcp::socket &socket) : socket_(socket) {}

    void read(std::function<void(error_code, std::vector<std::uint8_t> &)> done)
    {
        done_ = std::move(done);
        bytes_.resize(8);
        asio::async_read(socket_, asio::buffer(bytes_), [this](error_code error, std::size_t) {
            std::uint32_t length = 0;
            if (!error)
                std::memcpy(&length, bytes_.data() + 4, 4);
            if (error || length == 0)
                return finish(error);
            bytes_.resize(8 + length);
            asio::async_read(socket_, asio::buffer(bytes_.data() + 8, length),
                             [this](error_code end, std::size_t) { finish(end); });
        });
    }

private:
    void finish(error_code error)
    {
        auto done = std::move(done_);
        done(error, bytes_);
    }

    tcp::socket &socket_;
    std::vector<std::uint8_t> bytes_;
    std::function<void(error_code, std::vector<std::uint8_t> &)> done_;
};

// One accepted connection: answers each message with itself.
class Session : public std::enable_shared_from_this<Session> {
public:
    Session(tcp::socket socket, std::function<void()> ended)
        : socket_(std::move(socket)), reader_(socket_), ended_(std::move(ended))
    {
    }

    void start()
    {
        set_options(socket_);
        next();
    }

private:
    void next()
    {
        auto self = shared_from_this();
        reader_.read([self](error_code error, std::vector<std::uint8_t> &bytes) {
            if (error)
                return self->end(error);
            self->strange_ += bytes != message(self->answered_);
            self->answer_ = bytes;
            asio::async_write(self->socket_, asio::buffer(self->answer_),
                              [self](error_code failed, std::size_t) {
                                  if (failed)
                                      return self->end(failed);
                                  self->answered_++;
                                  self->next();
                              });
        });
    }

    void end(error_code error)
    {
        std::cout << "answered " << answered_ << ", strange " << strange_ << ", then "
                  << error.message() << std::endl;
        ended_();
    }

    tcp::socket socket_;
    Reader reader_;
    std::vector<std::uint8_t> answer_;
    std::function<void()> ended_;
    std::uint32_t answered_ = 0;
    int strange_ = 0;
};

static int serve(const tcp::endpoint &at, int rounds)
{
    asio::io_context connections, acceptors;
    auto work = asio::make_work_guard(connections);
    tcp::acceptor acceptor(acceptors);
    acceptor.open(at.protocol());
    acceptor.set_option(tcp::acceptor::reuse_address(true));
    acceptor.bind(at);
    acceptor.listen();
    std::cout << "ready" << std::endl;
    std::function<void()> accept = [&] {
        acceptor.async_accept(connections, [&](error_code error, tcp::socket socket) {
            if (error)
                return;
            auto ended = [&] {
                if (--rounds == 0) {
                    work.reset();
                    acceptors.stop();
                }
            };
            std::make_shared<Session>(std::move(socket), ended)->start();
            accept();
        });
    };
    accept();
    std::thread second([&] { connections.run(); });
    std::thread third([&] { connections.run(); });
    acceptors.run();
    second.join();
    third.join();
    return 0;
}

// What is on its way shall not be lost by the reset.
static int left_to_send(tcp::socket &socket)
{
    int left = -1;
    for (int i = 0; i < 100 && left != 0; i++) {
        if (i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        if (ioctl(socket.native_handle(), TIOCOUTQ, &left) != 0)
            return -1;
    }
    return left;
}

static void one_connection(const tcp::endpoint &own, const tcp::endpoint &to, int round, bool last)
{
    asio::io_context io;
    tcp::socket socket(io);
    asio::steady_timer tick(io);
    Reader reader(socket);
    std::uint32_t number = 0;
    int strange = 0, ticks = 0;
    std::vector<std::uint8_t> out;
    std::string end = "all answered";
    bool over = false;
    auto done = [&] {
        over = true; // the timer may have expired already: then it is not cancelled
        tick.cancel();
    };
    std::function<void()> talk = [&] {
        if (number == messages)
            return done();
        out = message(number);
        asio::async_write(socket, asio::buffer(out), [&](error_code failed, std::size_t) {
            if (failed)
                return end = failed.message(), done();
            reader.read([&](error_code error, std::vector<std::uint8_t> &bytes) {
                if (error)
                    return end = error.message(), done();
                strange += bytes != out;
                number++;
                talk();
            });
        });
    };
    std::function<void()> ticking = [&] {
        tick.expires_after(std::chrono::milliseconds(1));
        tick.async_wait([&](error_code error) {
            ticks++;
            if (!error && !over)
                ticking();
        });
    };
    socket.open(own.protocol());
    socket.set_option(tcp::socket::reuse_address(true));
    socket.bind(own);
    set_options(socket);
    socket.async_connect(to, [&](error_code error) {
        if (error)
            return end = error.message(), done();
        talk();
    });
    ticking();
    io.run();
    std::cout << "round " << round << ": " << number << " right, strange " << strange << ", "
              << (ticks > 1 ? "timer goes on, " : "timer stands, ") << end;
    if (round % 3 == 0)
        socket.shutdown(tcp::socket::shutdown_send);
    std::cout << ", left " << left_to_send(socket) << std::endl;
    if (last)
        std::cin.get();
    socket.close();
}

int main(int argc, char **argv)
{
    try {
        const std::string role = argc > 1 ? argv[1] : "";
        if (role == "server" && argc == 5)
            return serve({asio::ip::make_address(argv[2]),
                          static_cast<unsigned short>(std::atoi(argv[3]))},
                         std::atoi(argv[4]));
        if (role != "client" || argc != 6)
            return 2;
        const tcp::endpoint own(asio::ip::make_address(argv[2]), 0);
        const tcp::endpoint to(asio::ip::make_address(argv[3]),
                               static_cast<unsigned short>(std::atoi(argv[4])));
        const int rounds = std::atoi(argv[5]);
        for (int round = 0; round < rounds; round++)
            one_connection(own, to, round, round == rounds - 1);
        return 0;
    } catch (const std::exception &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
