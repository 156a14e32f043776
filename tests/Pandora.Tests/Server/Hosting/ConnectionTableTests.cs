using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Hosting;

/// <summary>Which connection is closed when there are too many, tested without sockets.</summary>
public sealed partial class ConnectionTableTests : IDisposable
{
    private static readonly IPAddress Loopback = IPAddress.Loopback, One = IPAddress.Parse("192.0.2.1"), Two = IPAddress.Parse("192.0.2.2");
    private readonly FakeTime _time = new();
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().AddSingleton<ServerMetrics>().BuildServiceProvider();
    private readonly List<string> _closed = [];
    private ConnectionTable? _table;

    private ServerMetrics Metrics => _services.GetRequiredService<ServerMetrics>();

    public void Dispose()
    {
        _table?.Dispose();
        _services.Dispose();
    }

    [Fact]
    public void A_connection_whose_unread_bytes_show_a_key_is_not_closed_for_any_number_of_others()
    {
        Open(20);
        for (var i = 0; i < 20; i++)
        {
            var name = $"{i}";
            Assert.NotNull(_table!.TryAdd(Loopback, () => _closed.Add(name), () => true, () => name == "3"));
        }

        for (var i = 20; i < 200; i++)
        {
            var name = $"{i}";
            Assert.NotNull(_table!.TryAdd(Loopback, () => _closed.Add(name), () => true, () => false));
        }

        Assert.Equal(180, _closed.Count);
        Assert.DoesNotContain("3", _closed);
    }

    [Fact]
    public void The_oldest_waiting_connection_is_closed_for_a_new_one_and_an_admitted_one_never()
    {
        Open(4);
        var admitted = Add("admitted");
        Ask(admitted);
        admitted.Admit(CancellationToken.None);
        Add("a");
        Add("b");
        Add("c");
        Add("d");
        Add("e");
        Assert.Equal(["a", "b"], _closed);
        Assert.Equal((3, 1), _table!.Counts);
        Assert.Equal(2, Metrics.Count(ClosingReason.Evicted));
    }

    [Fact]
    public void A_connection_that_has_sent_a_byte_is_closed_after_silent_ones()
    {
        Open(3);
        _table!.TryAdd(Loopback, () => _closed.Add("sent"), () => true);
        Add("a");
        Add("b");
        Add("c");
        Add("d");
        Assert.Equal(["a", "b"], _closed);
        // When all connections have sent a byte, the oldest is closed: a single byte does not protect a connection.
        Open(2);
        _closed.Clear();
        foreach (var name in new[] { "one", "two", "three" })
        {
            Assert.NotNull(_table!.TryAdd(Loopback, () => _closed.Add(name), () => true));
        }

        Assert.Single(_closed);
    }

    [Fact]
    public void A_new_connection_is_refused_if_all_others_are_admitted()
    {
        Open(2);
        foreach (var name in new[] { "a", "b" })
        {
            var connection = Add(name);
            Ask(connection);
            connection.Admit(CancellationToken.None);
        }

        Assert.Null(_table!.TryAdd(Loopback, () => _closed.Add("newcomer")));
        Assert.Empty(_closed);
        Assert.Equal((1, (0, 2)), (Metrics.Count(ClosingReason.Full), _table.Counts));
    }

    [Fact]
    public void A_connection_with_an_unchecked_request_is_closed_after_waiting_ones()
    {
        Open(4);
        Ask(Add("asking"));
        Add("a");
        Add("b");
        Add("c");
        Add("d");
        Add("e");
        Assert.Equal(["a", "b"], _closed);
        // An unchecked request does not protect a connection either: when most connections have one, the oldest of these is closed.
        Ask(Add("f"));
        Ask(Add("g"));
        Ask(Add("h"));
        Add("i");
        Assert.Contains("asking", _closed);
    }

    [Fact]
    public void A_connection_whose_request_is_being_checked_is_closed_after_waiting_ones_and_once_refused_before_newer_ones()
    {
        Open(2);
        var connection = Add("a");
        Ask(connection);
        connection.Begin();
        Add("b");
        Add("c");
        Add("d");
        Assert.Equal(["b", "c"], _closed);
        connection.End();
        Add("e");
        Add("f");
        Assert.Equal(["b", "c", "d", "a"], _closed);
    }

    [Fact]
    public void A_connection_whose_first_headers_show_a_key_is_admitted_before_they_are_checked()
    {
        Open(2);
        Assert.True(_table!.Start(Add("a"), null, isAsking: true, hasKey: true));
        Ask(Add("b"));
        Add("c");
        Add("d");
        Assert.Equal(["b", "c"], _closed);
        Assert.Equal((1, 1), _table.Counts);
    }

    [Fact]
    public void A_connection_is_admitted_by_a_request_with_a_key_and_not_by_one_without()
    {
        Open(2);
        var connection = Add("a");
        Ask(connection);
        connection.Begin();
        connection.End();
        Add("b");
        connection.Begin();
        Add("c");
        Assert.Equal(["b"], _closed);
        connection.End();
        connection.Begin();
        connection.Admit(CancellationToken.None);
        connection.End();
        Add("d");
        Add("e");
        Assert.Equal(["b", "c", "d"], _closed);
        _time.Advance(TimeSpan.FromHours(1));
        Assert.Equal((0, 1), _table!.Counts);
    }

    [Fact]
    public void A_connection_is_admitted_no_longer_than_what_admitted_it()
    {
        Open(1);
        var connection = Add("a");
        Ask(connection);
        using var key = new CancellationTokenSource();
        connection.Admit(key.Token);
        Assert.Equal((0, 1), _table!.Counts);
        key.Cancel();
        Assert.Equal((1, 0), _table.Counts);
        // Another key admits it again.
        using var other = new CancellationTokenSource();
        connection.Begin();
        connection.Admit(other.Token);
        Assert.Equal((0, 1), _table.Counts);
        _table.Closed(connection);
        other.Cancel();
        Assert.Equal((0, 0), _table.Counts);
    }

    [Fact]
    public void Silence_ends_after_five_seconds_and_half_a_request_after_ten()
    {
        Open(10);
        Add("silent");
        Wait(Add("slow"));
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.Empty(_closed);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["silent"], _closed);
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.Equal(["silent"], _closed);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["silent", "slow"], _closed);
        Assert.Equal((1, 1), (Metrics.Count(ClosingReason.FirstByte), Metrics.Count(ClosingReason.Headers)));
    }

    [Fact]
    public void After_a_refused_request_the_next_must_come_within_ten_seconds()
    {
        Open(10);
        var connection = Add("a");
        Ask(connection);
        _time.Advance(TimeSpan.FromSeconds(8));
        connection.Begin();
        _time.Advance(TimeSpan.FromSeconds(9));
        Assert.Empty(_closed);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["a"], _closed);
    }

    [Fact]
    public void An_address_over_its_limit_loses_its_oldest_connection()
    {
        Open(10, perAddress: 2);
        Add("other", Two);
        Add("a", One);
        Add("b", One);
        Add("c", One);
        Assert.Equal(["a"], _closed);
        Assert.Equal((1, (3, 0)), (Metrics.Count(ClosingReason.Address), _table!.Counts));
        // The same address written as an IPv6 address.
        Add("d", One.MapToIPv6());
        Assert.Equal(["a", "b"], _closed);
    }

    [Fact]
    public void An_address_at_its_limit_with_only_admitted_connections_gets_no_more()
    {
        Open(10, perAddress: 1);
        var connection = Add("a", One);
        Ask(connection);
        connection.Admit(CancellationToken.None);
        Assert.Null(_table!.TryAdd(One, () => _closed.Add("newcomer")));
        Assert.NotNull(_table.TryAdd(Two, () => { }));
        Assert.Equal(1, Metrics.Count(ClosingReason.Address));
        _table.Closed(connection);
        Assert.NotNull(_table.TryAdd(One, () => { }));
    }

    [Fact]
    public void An_IPv6_address_counts_by_its_first_64_bits()
    {
        Open(10, perAddress: 1);
        Add("a", IPAddress.Parse("2001:db8:0:1::1"));
        Add("b", IPAddress.Parse("2001:db8:0:2::1"));
        Assert.Empty(_closed);
        Add("c", IPAddress.Parse("2001:db8:0:1:ffff::2"));
        Assert.Equal(["a"], _closed);
    }

    [Fact]
    public void An_IPv6_proxy_is_exempt_by_its_full_address_and_its_neighbours_are_not()
    {
        var proxy = IPAddress.Parse("2001:db8::5");
        Open(10, perAddress: 1, proxy.Equals);
        Add("a", proxy);
        Add("b", proxy);
        Add("c", IPAddress.Parse("2001:db8::6"));
        Assert.Empty(_closed);
        Add("d", IPAddress.Parse("2001:db8::7"));
        Assert.Equal(["c"], _closed);
    }

    [Fact]
    public void A_connection_that_closes_makes_room()
    {
        Open(2, perAddress: 2);
        for (var i = 0; i < 100; i++)
        {
            var connection = Add($"{i}", One);
            Ask(connection);
            _table!.Closed(connection);
            // A connection that is reported closed twice counts once.
            _table.Closed(connection);
        }

        Assert.Empty(_closed);
        Assert.Equal((0, 0), _table!.Counts);
    }

    [Fact]
    public void When_descriptors_run_out_the_oldest_are_closed_and_admitted_ones_stay()
    {
        Open(10);
        var admitted = Add("admitted");
        Ask(admitted);
        admitted.Admit(CancellationToken.None);
        Add("a");
        Add("b");
        Add("c");
        Assert.Equal(2, _table!.Shed(2));
        Assert.Equal(["a", "b"], _closed);
        Assert.Equal(1, _table.Shed(16));
        Assert.Equal((3, (0, 1)), (Metrics.Count(ClosingReason.Descriptors), _table.Counts));
    }

    [Theory]
    [InlineData(0, 1024, 160)]
    [InlineData(0, 20_000, 8192)]
    [InlineData(0, 256, 64)]
    [InlineData(100, 1024, 100)]
    [InlineData(12_000, 20_000, 12_000)]
    public void Without_a_setting_the_number_of_descriptors_limits_connections(int setting, int descriptors, int expected) =>
        Assert.Equal(
            expected, ConnectionLimits.From(new EngineOptions(), new ServerOptions { MaxConnections = setting }, descriptors).Total);

    [Theory]
    [InlineData(161, "", "PANDORA_MAX_CONNECTIONS=161")]
    [InlineData(0, "10.0.0.0/8, proxy.example", "'proxy.example'")]
    [InlineData(0, "10.0.0.1/40", "'10.0.0.1/40'")]
    public void An_impossible_setting_stops_the_start(int setting, string proxies, string words) =>
        Assert.Contains(words,
            Assert.Throws<StartupException>(() =>
            ConnectionLimits.From(new EngineOptions(), new ServerOptions { MaxConnections = setting, Proxies = proxies }, 1024)).Message);

    [Theory]
    [InlineData("127.0.0.9", true)]
    [InlineData("::1", true)]
    [InlineData("10.1.2.3", true)]
    [InlineData("10.9.7.5", true)]
    [InlineData("2001:db8::5", true)]
    [InlineData("10.1.2.4", false)]
    [InlineData("192.0.2.1", false)]
    public void Loopback_and_proxies_are_exempt_from_the_limit_of_an_address(string address, bool isExempt)
    {
        var limits =
            ConnectionLimits.From(new EngineOptions(), new ServerOptions { Proxies = "10.1.2.3, 10.9.0.0/16,2001:db8::/32" }, 4096);
        Assert.Equal(isExempt, limits.IsExempt(IPAddress.Parse(address)));
    }

    private void Open(int total, int perAddress = 100, Func<IPAddress, bool>? isExempt = null) => _table = new ConnectionTable(
        new ConnectionLimits(total, perAddress, isExempt ?? IPAddress.IsLoopback), Metrics, _time, NullLogger<ConnectionTable>.Instance);

    private TrackedConnection Add(string name, IPAddress? address = null) => _table!.TryAdd(address ?? Loopback, () => _closed.Add(name))!;

    private void Ask(TrackedConnection connection) => Assert.True(_table!.Start(connection, null, isAsking: true));

    private void Wait(TrackedConnection connection) => Assert.True(_table!.Start(connection, null, isAsking: false));
}
