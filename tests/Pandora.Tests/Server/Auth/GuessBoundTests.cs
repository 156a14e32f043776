using System.Net;
using Microsoft.Extensions.Time.Testing;
using Pandora.Server.Auth;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Auth;

public sealed class GuessBoundTests
{
    private static readonly IPAddress One = IPAddress.Parse("192.0.2.1"), Two = IPAddress.Parse("192.0.2.2");
    private readonly FakeTimeProvider _time = new();
    private readonly GuessBound _bound;

    public GuessBoundTests() => _bound = new GuessBound(new ConnectionLimits(8, 8, IPAddress.IsLoopback), _time);

    [Fact]
    public void An_address_may_guess_a_few_times_at_once_and_then_slowly()
    {
        Assert.All(Enumerable.Range(0, GuessBound.Burst), _ => Assert.True(_bound.Guessed(One)));
        Assert.False(_bound.Guessed(One));
        Assert.True(_bound.Guessed(Two));
        _time.Advance(GuessBound.Refill);
        Assert.True(_bound.Guessed(One));
        Assert.False(_bound.Guessed(One));
    }

    [Fact]
    public void Above_the_bound_only_a_key_that_worked_from_there_passes()
    {
        var (known, guessed) = (NewKey(), NewKey());
        Assert.True(_bound.MayPass(One, known));
        for (var i = 0; i < GuessBound.Burst; i++)
        {
            _bound.Guessed(One);
        }

        Assert.True(_bound.MayPass(One, known));
        // The right key of a guess is not told from a wrong one.
        Assert.False(_bound.MayPass(One, guessed));
        Assert.True(_bound.MayPass(Two, guessed));
        _time.Advance(GuessBound.Refill);
        Assert.True(_bound.MayPass(One, guessed));
    }

    [Fact]
    public void An_IPv6_network_counts_as_one_address()
    {
        for (var i = 0; i < GuessBound.Burst; i++)
        {
            Assert.True(_bound.Guessed(IPAddress.Parse($"2001:db8::{i:x}")));
        }

        Assert.False(_bound.Guessed(IPAddress.Parse("2001:db8::ffff")));
        Assert.True(_bound.Guessed(IPAddress.Parse("2001:db8:0:1::1")));
    }

    [Fact]
    public void A_flood_from_many_addresses_is_remembered_within_a_bound()
    {
        for (var i = 0; i < 3 * GuessBound.MostRemembered; i++)
        {
            _bound.Guessed(new IPAddress(0x0a000000 + i));
        }

        Assert.InRange(_bound.Count, 1, GuessBound.MostRemembered);
    }

    private static Key NewKey() => Key.Of(Key.Create(isE2b: false), "name", KeyRole.User);
}
