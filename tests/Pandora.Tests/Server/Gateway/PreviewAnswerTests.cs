using System.Net;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Server.Gateway;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Tests.Gateway;

/// <summary>What clients and browsers get when no program answers.</summary>
public sealed class PreviewAnswerTests
{
    private const int Port = 3000;

    [Fact]
    public async Task Of_a_port_on_which_no_program_listens_a_browser_gets_a_page_that_asks_again()
    {
        await using var world = await PreviewWorld.StartAsync();
        await AssertAsync(world, ErrorCodes.PortClosed, PreviewResult.PortClosed, "http-equiv=\"refresh\" content=\"2\"");
        var page = await PageAsync(world);
        Assert.Contains($"No program listens on port {Port}", page, StringComparison.Ordinal);
        Assert.Contains($"pandora forward {world.Id} 0:{Port}", page, StringComparison.Ordinal);
        await world.EchoAsync(Port);
        using var answer = await world.GetAsync(Port);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Fact]
    public async Task Of_a_port_that_refuses_connections_the_same_is_said_in_HTTPS_without_forward()
    {
        await using var world = await PreviewWorld.StartAsync(hasDomain: true);
        using var answer = await world.SendAsync(HttpMethod.Get, world.DomainHostOf(Port), "/", ("Accept", "text/html"));
        Assert.Equal(HttpStatusCode.BadGateway, answer.StatusCode);
        Assert.DoesNotContain("pandora forward", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_a_sandbox_that_has_ended_or_died_it_is_said_that_it_is_gone()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.Api.SendAsync(HttpMethod.Delete, $"/sandboxes/{world.Id}");
        await AssertAsync(world, ErrorCodes.SandboxGone, PreviewResult.Gone, "This sandbox has ended");
    }

    [Fact]
    public async Task Of_a_sandbox_that_ends_meanwhile_the_reason_is_said()
    {
        await using var world = await PreviewWorld.StartAsync();
        var asked = new TaskCompletionSource();
        world.Listen(Port, async stream =>
        {
            await PreviewWorld.ReadHeadAsync(stream);
            asked.SetResult();
            await stream.ReadExactlyAsync(new byte[1]);
        });
        var asking = world.GetAsync(Port);
        await asked.Task;
        await world.Api.SendAsync(HttpMethod.Delete, $"/sandboxes/{world.Id}");
        using var answer = await asking;
        Assert.Equal(ErrorCodes.SandboxGone.Code, await PreviewWorld.CodeOf(answer));
    }

    [Fact]
    public async Task Of_a_sandbox_that_never_was_it_is_said_that_there_is_none()
    {
        await using var world = await PreviewWorld.StartAsync();
        using var answer = await world.SendAsync(HttpMethod.Get, world.HostOf(Port, "neverwas"));
        Assert.Equal(ErrorCodes.SandboxNotFound.Code, await PreviewWorld.CodeOf(answer));
        Assert.Equal(1, world.Api.Metrics.Count(PreviewResult.NotFound));
    }

    [Fact]
    public async Task Without_access_nothing_of_a_sandbox_is_said()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        var texts = new List<string>();
        foreach (var id in new[] { world.Id, "neverwas" })
        {
            using var answer = await world.SendAsync(HttpMethod.Get, world.HostOf(Port, id));
            Assert.Equal("Bearer", answer.Headers.WwwAuthenticate.Single().Scheme);
            texts.Add(await answer.Content.ReadAsStringAsync());
        }

        Assert.Equal(texts[0], texts[1]);
        await AssertAsync(world, ErrorCodes.Unauthorized, PreviewResult.Unauthorized, "This preview needs a link or a key");
    }

    [Fact]
    public async Task Of_a_public_port_of_a_sandbox_that_has_ended_its_viewers_are_answered_too()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port)
            .SetPublicAsync(Port, isPublic: true, CancellationToken.None);
        await world.Api.SendAsync(HttpMethod.Delete, $"/sandboxes/{world.Id}", headers: [("X-API-Key", PreviewWorld.Admin)]);
        await AssertAsync(world, ErrorCodes.SandboxGone, PreviewResult.Gone, "This sandbox has ended");
        using var other = await world.GetAsync(Port + 1);
        Assert.Equal(ErrorCodes.Unauthorized.Code, await PreviewWorld.CodeOf(other));
    }

    [Fact]
    public async Task Of_a_sandbox_with_too_many_connections_it_is_said_that_a_client_may_try_again()
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Listen(Port, stream => stream.ReadExactlyAsync(new byte[1]).AsTask());
        var sandbox = world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port);
        var open = new List<SandboxStream>();
        for (var i = 0; i < Sandbox.MaxPreviews; i++)
        {
            open.Add(await sandbox.ConnectPortAsync(Port, PortUse.Preview, CancellationToken.None));
        }

        await AssertAsync(world, ErrorCodes.TooManyConnections, PreviewResult.Limit, "too_many_connections");
        using var answer = await world.GetAsync(Port);
        Assert.Equal(TimeSpan.FromSeconds(1), answer.Headers.RetryAfter?.Delta);
        open.ForEach(s => s.Dispose());
    }

    [Fact]
    public async Task Of_a_guest_that_is_lost_it_is_said_that_it_does_not_answer()
    {
        await using var world = await PreviewWorld.StartAsync();
        var hold = new TaskCompletionSource();
        world.Guest.Answers = hold.Task;
        var asking = world.GetAsync(Port);
        // The node waits for the end of the VMM, which may come later than that of its agent.
        await using var clock = world.Api.Node.RunClock();
        hold.SetException(new PandoraException(PandoraError.GuestUnreachable, "the guest's agent does not answer"));
        using var answer = await asking;
        Assert.Equal(ErrorCodes.GuestUnreachable.Code, await PreviewWorld.CodeOf(answer));
        await AssertAsync(world, ErrorCodes.GuestUnreachable, PreviewResult.Unreachable, "guest_unreachable");
    }

    [Theory]
    [InlineData(ForwarderError.RequestTimedOut, "port_timeout")]
    [InlineData(ForwarderError.Request, "port_bad_answer")]
    [InlineData(ForwarderError.ResponseBodyDestination, "port_bad_answer")]
    [InlineData(ForwarderError.RequestCanceled, null)]
    [InlineData(ForwarderError.ResponseBodyClient, null)]
    public async Task Each_error_of_the_forwarder_has_an_answer(ForwarderError error, string? code)
    {
        await using var world = await PreviewWorld.StartAsync();
        var (host, sandboxes) = (new PreviewHost(Port, world.Id, IsOfDomain: false, ""), new ProjectSandboxes(world.Api.Node.Sandboxes));
        Assert.Equal(code, PreviewFailure.Of(host, sandboxes, error, exception: null)?.Code.Code);
    }

    [Fact]
    public async Task A_program_that_accepts_no_connection_in_time_is_a_timeout()
    {
        await using var world = await PreviewWorld.StartAsync();
        // As the guest's agent says it, within the server's own limit.
        world.Guest.Answers = Task.FromException(
            new PandoraException(PandoraError.PortTimeout, $"the program that listens on port {Port} accepted no connection for 5000 ms"));
        await AssertAsync(world, ErrorCodes.PortTimeout, PreviewResult.Timeout, "accepted no connection for 5000 ms");
    }

    [Fact]
    public async Task A_timeout_says_the_limit_that_was_reached()
    {
        await using var world = await PreviewWorld.StartAsync();
        using var handler = new SocketsHttpHandler
        {
            ConnectTimeout = TimeSpan.FromMilliseconds(1),
            ConnectCallback = async (_, stop) =>
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, stop);
                return Stream.Null;
            },
        };
        using var client = new HttpMessageInvoker(handler, disposeHandler: false);
        using var request = new HttpRequestMessage(HttpMethod.Get, "http://a.guest/");
        var connecting = await Assert.ThrowsAsync<TaskCanceledException>(() => client.SendAsync(request, CancellationToken.None));
        // The forwarder says that a request timed out in both cases.
        Assert.Contains(
            "accepted no connection within 10 s", DetailOf(ForwarderError.RequestTimedOut, connecting), StringComparison.Ordinal);
        Assert.Contains("600 s", DetailOf(ForwarderError.RequestTimedOut, new OperationCanceledException()), StringComparison.Ordinal);
        Assert.Contains("600 s", DetailOf(ForwarderError.ResponseBodyDestination, new TaskCanceledException()), StringComparison.Ordinal);

        string DetailOf(ForwarderError error, Exception exception)
        {
            var refusal = PreviewFailure.Of(
                new PreviewHost(Port, world.Id, IsOfDomain: false, ""), new ProjectSandboxes(world.Api.Node.Sandboxes), error, exception);
            Assert.Equal(ErrorCodes.PortTimeout, refusal!.Code);
            return refusal.Detail;
        }
    }

    [Fact]
    public async Task A_server_that_recovers_says_so()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true, isRecovering: true);
        using var request = new HttpRequestMessage(HttpMethod.Get, "/");
        request.Headers.Host = "3000-abc.localhost";
        using var answer = await api.Http.SendAsync(request);
        Assert.Equal(ErrorCodes.Recovering.Code, await PreviewWorld.CodeOf(answer));
    }

    [Fact]
    public async Task A_client_that_goes_away_ends_the_guests_connection()
    {
        await using var world = await PreviewWorld.StartAsync();
        var (asked, ended) = (new TaskCompletionSource(), new TaskCompletionSource());
        world.Listen(Port, async stream =>
        {
            await PreviewWorld.ReadHeadAsync(stream);
            asked.SetResult();
            try
            {
                await stream.ReadExactlyAsync(new byte[1]);
            }
            catch (IOException)
            {
                ended.SetResult();
            }
        });
        using (var connection = await world.ConnectAsync())
        {
            await connection.SendAsync(System.Text.Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\n\r\n"));
            await asked.Task;
            connection.Close(0);
        }

        await ended.Task.WaitAsync(TimeSpan.FromMinutes(1));
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.Cancelled) == 1);
    }

    // As problem details, and as a page.
    private static async Task AssertAsync(PreviewWorld world, ErrorCode code, PreviewResult result, string text)
    {
        var before = world.Api.Metrics.Count(result);
        using var answer = await world.GetAsync(Port, "/", ("Accept", "text/event-stream"));
        Assert.Equal(code.Status, (int)answer.StatusCode);
        Assert.Equal(code.Code, await PreviewWorld.CodeOf(answer));
        Assert.True(answer.Headers.CacheControl?.NoStore);
        Assert.Contains(text, await PageAsync(world), StringComparison.Ordinal);
        Assert.Equal(before + 2, world.Api.Metrics.Count(result));
    }

    private static async Task<string> PageAsync(PreviewWorld world)
    {
        using var answer = await world.GetAsync(Port, "/", ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"));
        Assert.Equal("text/html", answer.Content.Headers.ContentType?.MediaType);
        Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        return await answer.Content.ReadAsStringAsync();
    }
}
