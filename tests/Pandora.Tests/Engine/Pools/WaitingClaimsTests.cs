using Microsoft.Extensions.Time.Testing;
using Pandora.Engine.Pools;

namespace Pandora.Tests.Pools;

public sealed class WaitingClaimsTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Projects_are_served_in_turn_and_the_claims_of_one_in_order()
    {
        var claims = new WaitingClaims(_time);
        var (a1, a2, a3) = (claims.Add("a"), claims.Add("a"), claims.Add("a"));
        var (b1, b2, c1) = (claims.Add("b"), claims.Add("b"), claims.Add("c"));
        Assert.Equal([a1, b1, c1, a2, b2, a3], Enumerable.Range(0, 6).Select(_ => claims.TakeNext()));
        Assert.Equal(0, claims.Count);
    }

    [Fact]
    public void A_project_that_had_its_turn_long_ago_is_next()
    {
        var claims = new WaitingClaims(_time);
        claims.NoteServed("b");
        claims.NoteServed("a");
        var (a, b) = (claims.Add("a"), claims.Add("b"));
        var unknown = claims.Add("c");
        Assert.Equal([unknown, b, a], Enumerable.Range(0, 3).Select(_ => claims.TakeNext()));
    }

    [Fact]
    public void A_removed_claim_is_not_served_and_is_removed_once()
    {
        var claims = new WaitingClaims(_time);
        var (first, second, third) = (claims.Add("a"), claims.Add("a"), claims.Add("a"));
        Assert.True(claims.Remove(second));
        Assert.False(claims.Remove(second));
        Assert.Equal([first, third], [claims.TakeNext(), claims.TakeNext()]);
        Assert.False(claims.Remove(third));
        Assert.Equal((0, 0), (claims.Count, claims.CountOf("a")));
    }

    [Fact]
    public void Only_a_project_with_fewer_claims_displaces_the_newest_of_the_longest_queue()
    {
        var claims = new WaitingClaims(_time);
        Assert.Null(claims.TakeNewestOfLongest("a"));
        claims.Add("a");
        claims.Add("b");
        var newest = claims.Add("a");
        Assert.Null(claims.TakeNewestOfLongest("a"));
        Assert.Same(newest, claims.TakeNewestOfLongest("b"));
        Assert.Null(claims.TakeNewestOfLongest("b"));
        Assert.Equal((1, 1, 2), (claims.CountOf("a"), claims.CountOf("b"), claims.Count));
    }

    [Fact]
    public void A_project_without_a_waiting_claim_is_forgotten_after_a_while()
    {
        var claims = new WaitingClaims(_time);
        var waiting = claims.Add("a");
        Assert.False(claims.HasIdleProject);
        claims.NoteServed("b");
        _time.Advance(WaitingClaims.Memory - TimeSpan.FromSeconds(1));
        claims.NoteServed("c");
        Assert.True(claims.HasIdleProject);
        Assert.Equal(3, claims.ProjectCount);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(claims.HasIdleProject);
        Assert.Equal(2, claims.ProjectCount);
        _time.Advance(WaitingClaims.Memory);
        Assert.False(claims.HasIdleProject);
        // The project waits all the time, and rests from now on.
        Assert.Equal(1, claims.ProjectCount);
        claims.Remove(waiting);
        Assert.True(claims.HasIdleProject);
        _time.Advance(WaitingClaims.Memory);
        Assert.False(claims.HasIdleProject);
        Assert.Equal(0, claims.ProjectCount);
    }

    [Fact]
    public void The_number_of_remembered_projects_is_bounded()
    {
        var claims = new WaitingClaims(_time);
        for (var i = 0; i < 3 * WaitingClaims.MaxRemembered; i++)
        {
            claims.NoteServed($"served {i}");
            claims.Remove(claims.Add($"waited {i}"));
        }

        Assert.Equal(WaitingClaims.MaxRemembered, claims.ProjectCount);
    }
}
