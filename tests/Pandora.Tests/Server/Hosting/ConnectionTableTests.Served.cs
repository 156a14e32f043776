using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Hosting;

// Requests that pass without a key, and several requests at once on one connection.
public sealed partial class ConnectionTableTests
{
    [Fact]
    public void A_served_connection_has_no_limit_until_its_request_ends_and_then_the_next_must_come_within_ten_seconds()
    {
        Open(10);
        var connection = Serve("a");
        _time.Advance(TimeSpan.FromHours(1));
        Assert.Empty(_closed);
        Assert.Equal((1, 0), _table!.Counts);
        connection.End();
        _time.Advance(TimeSpan.FromSeconds(9));
        Assert.Empty(_closed);
        connection.Begin();
        connection.Serve();
        AssertServedUntilItEnds(connection, "a");
        Assert.Equal(1, Metrics.Count(ClosingReason.Headers));
    }

    [Fact]
    public void The_oldest_served_connection_is_closed_for_a_new_one_when_most_are_served()
    {
        Open(4);
        Admit(Add("admitted"));
        foreach (var name in new[] { "a", "b", "c" })
        {
            Serve(name);
        }

        Admit(Add("d"));
        Admit(Add("e"));
        Assert.Equal(["a", "b"], _closed);
        Admit(Add("f"));
        Assert.Equal(["a", "b", "c"], _closed);
        Assert.Null(_table!.TryAdd(Loopback, () => _closed.Add("newcomer")));
        Assert.Equal((3, (0, 4)), (Metrics.Count(ClosingReason.Evicted), _table.Counts));
    }

    [Fact]
    public void A_flood_of_waiting_or_asking_connections_closes_its_own_and_not_those_that_are_served()
    {
        Open(12);
        Serve("a");
        Serve("b");
        for (var i = 0; i < 50; i++)
        {
            Add("waiting");
        }

        for (var i = 0; i < 50; i++)
        {
            Ask(Add("asking"));
        }

        Assert.DoesNotContain("a", _closed);
        Assert.DoesNotContain("b", _closed);
        Assert.Equal(90, _closed.Count);
    }

    [Fact]
    public void A_connection_is_served_until_the_last_of_its_requests_has_ended()
    {
        Open(10);
        var connection = Serve("a");
        connection.Begin();
        connection.Serve();
        connection.End();
        // Another one, which is refused.
        connection.Begin();
        connection.End();
        AssertServedUntilItEnds(connection, "a");
    }

    [Fact]
    public void A_connection_waits_for_its_client_only_when_no_request_is_being_checked()
    {
        Open(2);
        var connection = Add("a");
        Ask(connection);
        connection.Begin();
        connection.Begin();
        connection.End();
        Add("b");
        Add("c");
        Assert.Equal(["b"], _closed);
        connection.End();
        Add("d");
        Add("e");
        Assert.Equal(["b", "c", "a"], _closed);
    }

    [Fact]
    public void A_key_admits_a_served_connection_and_when_it_is_revoked_the_requests_without_it_are_served_on()
    {
        Open(10);
        var connection = Serve("a");
        using var key = new CancellationTokenSource();
        connection.Begin();
        connection.Admit(key.Token);
        Assert.Equal((0, 1), _table!.Counts);
        key.Cancel();
        Assert.Equal((1, 0), _table.Counts);
        connection.End();
        AssertServedUntilItEnds(connection, "a");
    }

    [Fact]
    public void A_request_that_is_served_on_an_admitted_connection_changes_nothing_while_the_key_is_valid()
    {
        Open(10);
        var connection = Add("a");
        Admit(connection);
        using var key = new CancellationTokenSource();
        var other = Add("b");
        Ask(other);
        other.Begin();
        other.Admit(key.Token);
        other.End();
        foreach (var admitted in new[] { connection, other })
        {
            admitted.Begin();
            admitted.Serve();
        }

        Assert.Equal((0, 2), _table!.Counts);
        connection.End();
        // The request began while the key was valid, and passed without it.
        key.Cancel();
        Assert.Equal((1, 1), _table.Counts);
        AssertServedUntilItEnds(other, "b");
    }

    // Without a limit while its last request is served, and then for the ten seconds within which the next must come.
    private void AssertServedUntilItEnds(TrackedConnection connection, string name)
    {
        _time.Advance(TimeSpan.FromHours(1));
        Assert.Empty(_closed);
        connection.End();
        _time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal([name], _closed);
    }

    private void Admit(TrackedConnection connection)
    {
        Ask(connection);
        connection.Begin();
        connection.Admit(CancellationToken.None);
        connection.End();
    }

    private TrackedConnection Serve(string name)
    {
        var connection = Add(name);
        Ask(connection);
        connection.Begin();
        connection.Serve();
        return connection;
    }
}
