using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Files of a real guest, over HTTP.</summary>
public sealed class FileTests(FileFixture fixture) : IClassFixture<FileFixture>
{
    private static readonly JsonSerializerOptions Wire = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private ServerProcess Server => fixture.Server;

    private HttpClient Http => fixture.Server.Http;

    [Fact]
    public async Task A_file_is_written_shown_read_in_part_moved_copied_and_deleted()
    {
        await using var sandbox = await CreateAsync();
        using (var written = await PutAsync(sandbox, "/srv/a/b.txt&mode=0640&owner=nobody", "hello world"))
        {
            Assert.Equal(HttpStatusCode.Created, written.StatusCode);
        }

        Assert.Equal("640 nobody 11\n", (await sandbox.ExecAsync("stat -c '%a %U %s' /srv/a/b.txt")).Stdout);
        var shown = await Http.GetFromJsonAsync<FileEntry>(Url(sandbox, "/info?path=/srv/a/b.txt"), Wire);
        Assert.Equal(("/srv/a/b.txt", "b.txt", "file", 11L, "0640", "nobody"),
            (shown!.Path, shown.Name, shown.Type, shown.Size, shown.Mode, shown.User));
        using (var part = new HttpRequestMessage(HttpMethod.Get, Url(sandbox, "?path=/srv/a/b.txt")))
        {
            part.Headers.Add("Range", "bytes=6-8");
            using var answer = await Http.SendAsync(part);
            Assert.Equal(HttpStatusCode.PartialContent, answer.StatusCode);
            Assert.Equal("wor", await answer.Content.ReadAsStringAsync());
            Assert.Equal("bytes 6-8/11", $"{answer.Content.Headers.ContentRange}");
        }

        using (var copied = await Http.PostAsJsonAsync(Url(sandbox, "/copy"), new { from = "/srv/a/b.txt", to = "/srv/c.txt" }))
        {
            Assert.Equal(HttpStatusCode.OK, copied.StatusCode);
        }

        using (var moved = await Http.PostAsJsonAsync(Url(sandbox, "/move"), new { from = "/srv/c.txt", to = "/srv/d/e.txt" }))
        {
            Assert.Equal(HttpStatusCode.OK, moved.StatusCode);
        }

        Assert.Equal("hello world", (await sandbox.ExecAsync("cat /srv/d/e.txt; ls /srv/c.txt 2>&1 | wc -l")).Stdout.Split('1')[0]);
        using (var deleted = await Http.DeleteAsync(Url(sandbox, "?path=/srv/a")))
        {
            await MustFailAsync(deleted, HttpStatusCode.Conflict, "file_exists");
        }

        using (var deleted = await Http.DeleteAsync(Url(sandbox, "?path=/srv/a&recursive=true")))
        {
            Assert.Equal(HttpStatusCode.NoContent, deleted.StatusCode);
        }

        using var gone = await Http.GetAsync(Url(sandbox, "?path=/srv/a/b.txt"));
        await MustFailAsync(gone, HttpStatusCode.NotFound, "file_not_found");
    }

    [Fact]
    public async Task A_users_rights_are_those_that_the_guest_gives_the_user()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync(
            "echo secret > /root/secret; chmod 700 /root; mkdir -p /srv/mine /srv/group; chown nobody /srv/mine; "
            + "groupadd -f team; usermod -aG team nobody; chgrp team /srv/group; chmod 770 /srv/group");
        foreach (var path in new[] { "/root/secret", "/etc/shadow", "/proc/1/environ", "/proc/1/root/etc/hostname" })
        {
            using var read = await Http.GetAsync(Url(sandbox, $"?path={path}&user=nobody"));
            await MustFailAsync(read, HttpStatusCode.Forbidden, "file_access_denied");
        }

        using (var written = await PutAsync(sandbox, "/etc/passwd&user=nobody", "x"))
        {
            await MustFailAsync(written, HttpStatusCode.Forbidden, "file_access_denied");
        }

        foreach (var path in new[] { "/srv/mine/a", "/srv/group/a" })
        {
            using var written = await PutAsync(sandbox, $"{path}&user=nobody", "mine");
            Assert.Equal(HttpStatusCode.Created, written.StatusCode);
            Assert.Equal("nobody mine", (await sandbox.ExecAsync($"stat -c %U {path}; cat {path}")).Stdout.Replace('\n', ' '));
        }

        using var unknown = await Http.GetAsync(Url(sandbox, "?path=/etc/hostname&user=nosuch"));
        await MustFailAsync(unknown, HttpStatusCode.BadRequest, "invalid_request");
    }

    [Fact]
    public async Task Hostile_paths_hang_nothing_and_are_answered()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync(
            "cd /srv; mkfifo fifo; ln -s loop loop; ln -s /dev/zero zero; "
            + "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; "
            + "mkdir d; ln -s /etc/hostname link; touch \"$(printf 'a\\377b')\" $(printf 'n%.0s' $(seq 255))");
        (string Path, HttpStatusCode Status, string Code)[] cases =
        [
            ("/srv/fifo", HttpStatusCode.Conflict, "file_state"),
            ("/srv/sock", HttpStatusCode.Conflict, "file_state"),
            ("/srv/zero", HttpStatusCode.Conflict, "file_state"),
            ("/dev/vda", HttpStatusCode.Conflict, "file_state"),
            ("/srv/d", HttpStatusCode.Conflict, "file_state"),
            ("/srv/loop", HttpStatusCode.BadRequest, "invalid_request"),
            ("/srv/link/x", HttpStatusCode.Conflict, "file_state"),
            ($"/srv/{new string('m', 256)}", HttpStatusCode.BadRequest, "invalid_request"),
            ("/srv/a%00b", HttpStatusCode.BadRequest, "invalid_request"),
            ($"/{new string('/', 4095)}", HttpStatusCode.BadRequest, "invalid_request"),
            ("/srv/d/../../../../nosuch", HttpStatusCode.NotFound, "file_not_found"),
        ];
        foreach (var (path, status, code) in cases)
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
            try
            {
                using var answer = await Http.GetAsync(Url(sandbox, $"?path={path}"), limit.Token);
                await MustFailAsync(answer, status, code, path);
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                Assert.Fail($"'{path[..Math.Min(80, path.Length)]}' was not answered: {e.Message}");
            }
        }

        // The kernel's messages end where a reader would have to wait for more: the answer is cut there.
        using (var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System))
        {
            await Assert.ThrowsAsync<HttpRequestException>(() => Http.GetAsync(Url(sandbox, "?path=/proc/kmsg"), limit.Token));
        }

        // Files that have no size, and names that are not text, are read.
        Assert.StartsWith("Linux", await Http.GetStringAsync(Url(sandbox, "?path=/proc/version")), StringComparison.Ordinal);
        Assert.Equal("", await Http.GetStringAsync(Url(sandbox, "?path=/srv/a%FFb")));
        Assert.Equal("", await Http.GetStringAsync(Url(sandbox, $"?path=/srv/{new string('n', 255)}")));
        var list = await Http.GetFromJsonAsync<FileList>(Url(sandbox, "/list?path=/srv"), Wire);
        var strange = Assert.Single(list!.Entries, e => e.PathBase64 is not null);
        Assert.Equal("/srv/a\u00FFb", Encoding.Latin1.GetString(Convert.FromBase64String(strange.PathBase64!)));
        Assert.Equal("a\uFFFDb", strange.Name);
    }

    [Fact]
    public async Task On_a_full_disk_the_old_file_stays_whole()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync("mkdir /srv/small && mount -t tmpfs -o size=8m none /srv/small && echo old > /srv/small/file");
        foreach (var target in new[] { "?path=/srv/small/file", "/tar?path=/srv/small" })
        {
            var big = new byte[32 * 1024 * 1024];
            using var content = new ByteArrayContent(target[0] == '?' ? big : FileArchives.OfOne("file", big));
            using var answer = await Http.PutAsync(Url(sandbox, target), content);
            await MustFailAsync(answer, HttpStatusCode.InsufficientStorage, "disk_full", target);
            Assert.Equal("old\nfile\n", (await sandbox.ExecAsync("cat /srv/small/file; ls -A /srv/small")).Stdout);
        }
    }

    [Fact]
    public async Task Hostile_archives_write_nothing_outside_of_their_directory()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync("mkdir /srv/out && echo kept > /srv/out/file && mkdir /srv/in");
        foreach (var (name, archive) in FileArchives.Hostile)
        {
            using var content = new ByteArrayContent(archive);
            using var answer = await Http.PutAsync(Url(sandbox, "/tar?path=/srv/in"), content);
            await MustFailAsync(answer, HttpStatusCode.BadRequest, "invalid_request", name);
        }

        var found = await sandbox.ExecAsync(
            "cat /srv/out/file; ls -A /srv/out; ls -d /evil /srv/evil 2> /dev/null; find /srv/in -type b -o -type c");
        Assert.Equal("kept\nfile\n", found.Stdout);
    }

    [Fact]
    public async Task A_link_swapped_in_for_a_directory_is_not_followed()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync(
            """
            mkdir -p /srv/secret /srv/tree && for i in $(seq 50); do echo "the secret" > /srv/secret/$i; done
            cat > /srv/swap.py <<'END'
            import os
            while True:
                try:
                    os.makedirs('/srv/tree/a/b'); open('/srv/tree/a/b/f', 'w').close()
                    os.rename('/srv/tree/a', '/srv/tree/c'); os.symlink('/srv/secret', '/srv/tree/a')
                    os.unlink('/srv/tree/a'); os.rename('/srv/tree/c', '/srv/tree/a')
                    for root, dirs, files in os.walk('/srv/tree', topdown=False):
                        for f in files: os.unlink(os.path.join(root, f))
                        for d in dirs: os.rmdir(os.path.join(root, d))
                except OSError:
                    pass
            END
            """);
        var swapping = await sandbox.Processes.StartAsync("exec python3 /srv/swap.py");
        var packed = new StringBuilder();
        for (var i = 0; i < 25; i++)
        {
            try
            {
                packed.Append(Encoding.Latin1.GetString(await Http.GetByteArrayAsync(Url(sandbox, "/tar?path=/srv/tree"))));
            }
            catch (HttpRequestException)
            {
                // A file that vanishes while it is packed ends the archive.
            }

            using var copied = await Http.PostAsJsonAsync(
                Url(sandbox, "/copy"), new { from = "/srv/tree", to = $"/srv/copy{i}", recursive = true });
            using var deleted = await Http.DeleteAsync(Url(sandbox, "?path=/srv/tree/a&recursive=true"));
            Assert.True((int)copied.StatusCode < 500 && (int)deleted.StatusCode < 500, $"{copied} {deleted}");
        }

        await swapping.SignalAsync("KILL");
        Assert.DoesNotContain("the secret", packed.ToString());
        Assert.Equal("50\n0\n", (await sandbox.ExecAsync(
            "ls /srv/secret | wc -l; find /srv/copy* -type f -exec grep -l 'the secret' {} + | wc -l")).Stdout);
    }

    [Fact]
    public async Task A_watch_misses_nothing_of_a_storm_or_says_so_and_goes_on()
    {
        const int Files = 6000;
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync("mkdir /srv/w");
        using var request = new HttpRequestMessage(HttpMethod.Get, Url(sandbox, "/watch?path=/srv/w&recursive=true"));
        using var answer = await Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await answer.EnsureSuccessStatusCode().Content.ReadAsStreamAsync());
        await LinesAsync(reader, "event: started");
        // Nobody reads the events meanwhile.
        const string Storm =
            "import os, sys\nfor i in range(int(sys.argv[1])):\n  p = f'/srv/w/{i % 7}'; open(p, 'w').close(); os.unlink(p)";
        await sandbox.ExecAsync(
            $"python3 -c \"{Storm}\" {Files}; "
            + "mkdir -p /srv/w/deep/er; sleep 1; echo x > /srv/w/deep/er/last",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(200) });
        var lines = await LinesAsync(reader, "deep/er/last");
        var (created, lost) = (lines.Count(l => l == "event: created"), lines.Count(l => l == "event: lost"));
        Assert.True(created >= Files || lost > 0, $"{created} of {Files} files were reported, and no loss");
        await sandbox.ExecAsync("rm -rf /srv/w");
        await LinesAsync(reader, "event: gone");
    }

    // Reads to a line that contains a text.
    private static async Task<List<string>> LinesAsync(StreamReader reader, string wanted)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(180), TimeProvider.System);
        var lines = new List<string>();
        while (await reader.ReadLineAsync(limit.Token) is { } line)
        {
            lines.Add(line);
            if (line.Contains(wanted, StringComparison.Ordinal))
            {
                return lines;
            }
        }

        throw new InvalidOperationException($"the stream ended without '{wanted}'");
    }

    private Task<Sandbox> CreateAsync() => Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    private async Task<HttpResponseMessage> PutAsync(Sandbox sandbox, string path, string text)
    {
        using var content = new StringContent(text);
        return await Http.PutAsync(Url(sandbox, $"?path={path}"), content);
    }

    private static Uri Url(Sandbox sandbox, string rest) => new($"/sandboxes/{sandbox.Id}/files{rest}", UriKind.Relative);

    private static async Task MustFailAsync(HttpResponseMessage answer, HttpStatusCode status, string code, string what = "")
    {
        var text = await answer.Content.ReadAsStringAsync();
        Assert.True(
            answer.StatusCode == status && text.Contains($"\"{code}\"", StringComparison.Ordinal),
            $"{what[..Math.Min(80, what.Length)]}: {answer.StatusCode} {text}");
    }
}

/// <summary>One server for the tests of files.</summary>
public sealed class FileFixture : ServerFixture;
