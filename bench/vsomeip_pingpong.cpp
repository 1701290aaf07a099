// SPDX-License-Identifier: Apache-2.0
//
// Calls over vsomeip, one after the other, and what they took:
//
//   vsomeip_pingpong server
//   vsomeip_pingpong client udp|tcp SIZE WARM COUNT
//
// The client prints {"sent": .., "lost": 0, "p50": .., "p90": .., "p99": ..} in microseconds, of
// SIZE bytes of payload there and back, from send() until the handler has the answer. It knows
// nothing of IVC. bench/stacks.py writes the configuration and compiles it, where vsomeip is.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <vsomeip/vsomeip.hpp>

namespace {

constexpr vsomeip::service_t service = 0x1234;
constexpr vsomeip::instance_t instance = 0x5678;
constexpr vsomeip::method_t method = 0x0421;

using Clock = std::chrono::steady_clock;
using Message = std::shared_ptr<vsomeip::message>;

std::shared_ptr<vsomeip::application> started()
{
    auto app = vsomeip::runtime::get()->create_application();
    if (!app->init()) {
        std::fputs("vsomeip_pingpong: vsomeip does not start\n", stderr);
        std::exit(1);
    }
    return app;
}

void serve()
{
    auto app = started();
    app->register_message_handler(service, instance, method, [app](const Message &request) {
        auto response = vsomeip::runtime::get()->create_response(request);
        response->set_payload(request->get_payload());
        app->send(response);
    });
    app->offer_service(service, instance);
    app->start();
}

// One call is under way at any time; the handler of its answer makes the next.
class Caller {
public:
    Caller(bool tcp, std::size_t size, std::size_t warm, std::size_t count)
        : app_(started()), request_(vsomeip::runtime::get()->create_request(tcp)), warm_(warm),
          count_(count)
    {
        auto payload = vsomeip::runtime::get()->create_payload();
        payload->set_data(std::vector<vsomeip::byte_t>(size, 0xa5));
        request_->set_service(service);
        request_->set_instance(instance);
        request_->set_method(method);
        request_->set_payload(payload);
    }

    void run()
    {
        app_->register_message_handler(service, instance, method,
                                       [this](const Message &) { answered(); });
        app_->register_availability_handler(
            service, instance, [this](vsomeip::service_t, vsomeip::instance_t, bool there) {
                if (there && !begun_)
                    call();
            });
        app_->request_service(service, instance);
        app_->start();
    }

private:
    void call()
    {
        begun_ = true;
        sent_at_ = Clock::now();
        app_->send(request_);
    }

    void answered()
    {
        std::chrono::duration<double, std::micro> took = Clock::now() - sent_at_;
        if (warm_ > 0)
            warm_--;
        else
            took_.push_back(took.count());
        if (took_.size() == count_)
            report();
        call();
    }

    [[noreturn]] void report()
    {
        std::sort(took_.begin(), took_.end());
        auto part = [this](std::size_t percent) { return took_[took_.size() * percent / 100]; };
        std::printf("{\"sent\": %zu, \"lost\": 0, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f}\n",
                    count_, part(50), part(90), part(99));
        std::fflush(stdout);
        std::_Exit(0); // no stack is to take its leave of a peer that is ended next
    }

    std::shared_ptr<vsomeip::application> app_;
    Message request_;
    std::size_t warm_, count_;
    bool begun_ = false;
    Clock::time_point sent_at_;
    std::vector<double> took_;
};

} // namespace

int main(int argc, char **argv)
{
    std::string side = argc > 1 ? argv[1] : "";
    if (side == "server" && argc == 2) {
        serve();
    } else if (side == "client" && argc == 6) {
        Caller caller(std::string(argv[2]) == "tcp", std::stoul(argv[3]), std::stoul(argv[4]),
                      std::stoul(argv[5]));
        caller.run();
    } else {
        std::fputs("usage: vsomeip_pingpong server\n"
                   "       vsomeip_pingpong client udp|tcp SIZE WARM COUNT\n",
                   stderr);
        return 2;
    }
    return 0;
}
